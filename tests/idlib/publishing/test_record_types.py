import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import MalformedNameError
from idlib.names import IdentityName
from idlib.publishing.change import present_generic
from idlib.publishing.record_types import TLSA, TXT, RecordType, epoch_place, text_of, tlsa_place

NAME = IdentityName("alice._device.example.test")
STRINGS = st.lists(st.binary(max_size=255), min_size=1, max_size=4)


def rdata_of(strings: list[bytes]) -> bytes:
    return b"".join(bytes((len(string),)) + string for string in strings)


@given(STRINGS)
def test_another_program_reads_the_presentation_form_of_a_txt_record_in_the_same_way(strings: list[bytes]) -> None:
    rdata = rdata_of(strings)
    record = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, TXT.present(rdata))
    assert record.to_wire() == rdata == TXT.parse(TXT.present(rdata))


@given(st.binary(max_size=300))
def test_what_is_not_the_data_of_a_txt_record_is_shown_in_generic_form(rdata: bytes) -> None:
    is_malformed = TXT.present(rdata) == present_generic(rdata)
    try:
        dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, rdata, 0, len(rdata))
    except Exception:  # noqa: BLE001  # whatever dnspython raises
        assert is_malformed
    else:
        assert not is_malformed


@pytest.mark.parametrize("record_type", [TLSA, TXT], ids=str)
@given(text=st.text() | st.text('"\\ 0123456789#;(\n', max_size=12))
def test_any_text_is_read_or_an_error(record_type: RecordType, text: str) -> None:
    try:
        rdata = record_type.parse(text)
    except ValueError:
        return
    assert record_type.parse(record_type.present(rdata)) == rdata


@given(STRINGS, st.integers(1, 255))
def test_the_content_of_a_txt_record_does_not_depend_on_how_it_is_cut(strings: list[bytes], length: int) -> None:
    text = b"".join(strings)
    cut_again = rdata_of([text[start : start + length] for start in range(0, len(text), length)] or [b""])
    assert TXT.content(rdata_of(strings)) == TXT.content(cut_again) == text


@given(st.binary())
def test_any_data_has_a_text(rdata: bytes) -> None:
    assert isinstance(text_of(rdata), bytes)


def test_epoch_records_are_beside_the_name() -> None:
    place = epoch_place(NAME)
    assert (place.owner.text, str(place)) == (f"_epoch.{NAME}", f"TXT records at _epoch.{NAME}")
    assert str(tlsa_place(NAME)) == f"TLSA records at {NAME}"


def test_a_name_that_leaves_no_room_for_epoch_records_is_an_error() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 54])
    assert epoch_place(IdentityName(longest)).owner.text.endswith(longest)
    with pytest.raises(MalformedNameError, match=r"cannot have 247 characters, .* _epoch\.NAME; use at most 246"):
        epoch_place(IdentityName(f"{longest}d"))


def test_the_record_that_is_never_published_has_the_form_of_its_type() -> None:
    for record_type in (TLSA, TXT):
        assert record_type.parse(record_type.present(record_type.never_published)) == record_type.never_published
