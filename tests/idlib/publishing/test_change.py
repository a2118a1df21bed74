from datetime import UTC, datetime

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.certificates import build_self_signed_certificate, build_subject, build_subject_alternative_name
from idlib.keys import generate_private_key
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet, present, present_generic, shorten
from idlib.records import key_of, render
from idlib.settings import KeyType

NAME = IdentityName("alice._device.example.test")
RDATAS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def parse(text: str) -> bytes:
    """Return the data of a record in presentation form, as another program reads it."""
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TLSA, text).to_wire() or b""


@given(RDATAS)
def test_a_set_has_neither_order_nor_duplicates(rdatas: list[bytes]) -> None:
    assert PublishedSet.of(300, rdatas) == PublishedSet.of(300, [*reversed(rdatas), *rdatas])


def test_an_empty_set_has_no_ttl() -> None:
    assert PublishedSet.of(300, ()) == PublishedSet.of(60, ())


@given(RDATAS, RDATAS, st.sampled_from([60, 300]))
def test_a_change_leads_from_the_records_before_to_those_after(
    before: list[bytes], after: list[bytes], ttl: int
) -> None:
    change = Change(NAME, PublishedSet.of(60, before), PublishedSet.of(ttl, after))
    assert (set(before) - set(change.remove)) | set(change.add) == set(after)
    assert not set(change.add) & set(change.remove)
    assert change.is_empty == (set(before) == set(after) and (ttl == 60 or not after))


# Of digests dnspython reads only those of the right length.
@given(st.binary(min_size=4, max_size=600).filter(lambda rdata: rdata[2] not in {1, 2}))
def test_presentation_form_and_generic_form_mean_the_same_record(rdata: bytes) -> None:
    assert parse(present(rdata)) == rdata
    assert parse(present_generic(rdata)) == rdata


@given(st.binary(max_size=3))
def test_what_is_too_short_for_a_tlsa_record_is_shown_in_generic_form(rdata: bytes) -> None:
    assert present(rdata) == present_generic(rdata) == rf"\# {len(rdata)} {rdata.hex()}"


@given(st.binary(min_size=4, max_size=600))
def test_a_shortened_record_starts_as_the_record(rdata: bytes) -> None:
    shown, _, key = shorten(rdata).partition(", key ")
    assert present(rdata).startswith(shown.removesuffix("…"))
    assert shown.endswith("…") == (len(rdata) > 3 + 8)
    assert len(shown) <= len("255 255 255 ") + 17
    assert bool(key) == (key_of(rdata) is not None)


@pytest.mark.parametrize("key_type", [KeyType.RSA2048, KeyType.P256])
def test_shortened_records_of_different_keys_differ_and_those_of_one_key_name_the_same_key(key_type: KeyType) -> None:
    shown: list[list[str]] = []
    for _ in range(2):
        key = generate_private_key(key_type)
        name = build_subject(NAME, country="US", state="CA", locality="x", organization="x")
        certificate = build_self_signed_certificate(
            key, name, build_subject_alternative_name(NAME), datetime(2026, 1, 1, tzinfo=UTC)
        )
        shown.append([shorten(render(certificate, selector).to_rdata()) for selector in (0, 1)])
    for first, second in zip(*shown, strict=True):
        assert first != second
        assert first[:8] == second[:8] == f"{first[:5]} 30"
    for certificate_only, key_only in shown:
        assert certificate_only.split(", key ")[1] == key_only.split(", key ")[1]
