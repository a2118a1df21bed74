import tracemalloc

import pytest
from dns.rdata import from_text
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from hypothesis import given
from hypothesis import strategies as st

from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.texts import EpochTexts, joined
from idlib.errors import MalformedRecordError
from idlib.names import IdentityName

ALICE = IdentityName("alice._device.example.test")


def rdata_of(*strings: bytes) -> bytes:
    return b"".join(bytes([len(string)]) + string for string in strings)


@given(st.lists(st.binary(max_size=255), min_size=1, max_size=20))
def test_the_character_strings_of_a_record_are_joined(strings: list[bytes]) -> None:
    assert joined(rdata_of(*strings)) == b"".join(strings)


@given(st.binary(min_size=1, max_size=3000), st.data())
def test_where_a_text_is_cut_into_strings_changes_nothing(text: bytes, data: st.DataObject) -> None:
    strings = []
    position = 0
    while position < len(text):
        length = data.draw(st.integers(1, 255))
        strings.append(text[position : position + length])
        position += length
        strings.extend([b""] * data.draw(st.integers(0, 1)))
    assert joined(rdata_of(*strings)) == text


@given(st.binary(max_size=600))
def test_arbitrary_data_is_joined_as_dnspython_joins_it_or_rejected(octets: bytes) -> None:
    try:
        text = joined(octets)
    except MalformedRecordError as error:
        assert error.fact
        return
    strings = from_text(RdataClass.IN, RdataType.TXT, rf"\# {len(octets)} {octets.hex()}").strings  # type: ignore[attr-defined]
    assert text == b"".join(strings)


@pytest.mark.parametrize("octets", [b"", b"\1", b"\2a", rdata_of(b"a") + b"\xff", rdata_of(b"a" * 255)[:-1]])
def test_data_that_is_no_sequence_of_strings_is_rejected(octets: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        joined(octets)


def test_records_are_in_the_order_of_their_bytes_without_malformed_ones() -> None:
    rdatas = (rdata_of(b"b", b"c"), b"\5a", rdata_of(b"a" * 255, b"z"), b"", rdata_of(b""))
    texts = EpochTexts.of(ALICE, AuthenticRecords(rdatas, 60, "made in a test"))
    assert texts == EpochTexts(ALICE, (b"", b"a" * 255 + b"z", b"bc"), "made in a test")
    assert "aaa" not in repr(texts)


@pytest.mark.parametrize("records", [1, 4])
def test_the_use_of_memory_is_not_underestimated(records: int) -> None:
    rdatas = tuple(rdata_of(bytes([number]) * 255, *[b"x" * 255] * 7) for number in range(records))
    kept = []
    tracemalloc.start()
    try:
        for number in range(100):
            name = IdentityName(f"sensor-{number}._device.customer.example.test")
            kept.append(EpochTexts.of(name, AuthenticRecords(rdatas, 60, "made in a test")))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.4 * sum(texts.size for texts in kept) < taken < sum(texts.size for texts in kept)
