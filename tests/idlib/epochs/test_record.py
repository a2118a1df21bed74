"""Epoch records: their bytes, their signatures, and which of a name's TXT records are used."""

import hashlib
import json
from typing import Any, Final

import dns.rdata
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib import signatures
from idlib.algorithms import PrivateKey
from idlib.epochs import EpochPrivateKey, EpochPublicKey
from idlib.epochs.record import (
    HPKE_9_KE,
    MAX_RECORDS,
    PREFIX,
    EpochRecord,
    EpochRecords,
    SignedEpochRecord,
    read_epoch_records,
)
from idlib.errors import MalformedRecordError
from idlib.names import IdentityName
from testbed.forge import b64, unb64
from tests.idlib.epochs.vectors import PATH, alice

VECTORS: Final[dict[str, Any]] = json.loads(PATH.read_text())
NAME: Final = IdentityName("alice._device.example.com")
DAY: Final = 24 * 3600
START: Final = 1_800_000_000
KEY: Final = EpochPrivateKey(bytes(range(32))).public
RECORD: Final = EpochRecord(START, START + 9 * DAY, KEY)
KEYS: Final = {"RS256": alice("rsa2048"), "ES256": alice("p256")}
KINDS: Final = sorted(KEYS)
PUBLIC: Final = [key.public for key in KEYS.values()]
SIGNED: Final = {kind: SignedEpochRecord.create(RECORD, NAME, key) for kind, key in KEYS.items()}


def text_of(body: bytes, key: PrivateKey = KEYS["ES256"], name: IdentityName = NAME, more: bytes = b"") -> bytes:
    """Sign any bytes as the body of a record, without the code under test."""
    signature = signatures.sign(key, b"dane-mqtt epoch 1\0" + name.text.encode() + b"\0" + body)
    return b"epoch1:" + b64(body + signature + more).encode()


def body_with(place: int, octets: bytes) -> bytes:
    body = bytearray(RECORD.to_octets())
    body[place : place + len(octets)] = octets
    return bytes(body)


def read(*texts: bytes) -> EpochRecords:
    return read_epoch_records(NAME, texts, PUBLIC)


def only_reason(text: bytes) -> str:
    records = read(text)
    assert records.usable == ()
    (skipped,) = records.skipped
    assert not skipped.is_signed_by_another
    assert skipped.reason.isascii()
    assert skipped.reason.isprintable()
    return skipped.reason


@pytest.mark.parametrize("kind", KINDS)
def test_the_vectors_are_reproduced(kind: str) -> None:
    vector = VECTORS["records"][kind]
    name = IdentityName(vector["name"])
    record = EpochRecord(vector["from"], vector["until"], EpochPrivateKey(bytes.fromhex(vector["seed"])).public)
    assert record.to_octets().hex() == vector["body"]
    assert record.signed_octets(name).hex() == vector["signed"]
    assert record.key_id(name) == vector["kid"]
    signed = SignedEpochRecord(record, bytes.fromhex(vector["signature"]))
    assert [string.decode() for string in signed.to_strings()] == vector["strings"]
    assert signed.is_signed_by([KEYS[kind].public], name)
    (usable,) = read_epoch_records(name, [signed.to_text()], PUBLIC).usable
    assert (usable.record, usable.key_id) == (record, vector["kid"])
    if kind == "RS256":
        assert SignedEpochRecord.create(record, name, KEYS[kind]) == signed


@pytest.mark.parametrize("kind", KINDS)
def test_the_vectors_are_those_of_the_protocol(kind: str) -> None:
    """Compute each of them from the protocol's words alone."""
    vector = VECTORS["records"][kind]
    times = vector["from"].to_bytes(4, "big") + vector["until"].to_bytes(4, "big")
    public = EpochPrivateKey(bytes.fromhex(vector["seed"])).public.octets
    body = b"\x01\x09\x00\x00" + times + public
    assert body.hex() == vector["body"]
    assert len(body) == 1228
    signed = b"dane-mqtt epoch 1\x00" + vector["name"].encode() + b"\x00" + body
    assert signed.hex() == vector["signed"]
    assert vector["kid"] == b64(hashlib.sha256(signed).digest()[:16])
    assert len(vector["kid"]) == 22
    signature = bytes.fromhex(vector["signature"])
    native = KEYS[kind].native
    if isinstance(native, rsa.RSAPrivateKey):
        assert signature == native.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    text = "epoch1:" + b64(body + signature)
    assert len(text) == {"RS256": 1986, "ES256": 1730}[kind]
    assert vector["strings"] == [text[place : place + 255] for place in range(0, len(text), 255)]
    assert len(vector["strings"]) == {"RS256": 8, "ES256": 7}[kind]


@given(st.integers(0, 2**32 - 1), st.integers(1, 400 * DAY), st.binary(min_size=32, max_size=32))
def test_a_record_survives_its_text(start: int, life: int, seed: bytes) -> None:
    start = min(start, 2**32 - 1 - life)
    record = EpochRecord(start, start + life, EpochPrivateKey(seed).public)
    signed = SignedEpochRecord.create(record, NAME, KEYS["ES256"])
    assert SignedEpochRecord.from_text(signed.to_text()) == signed
    assert EpochRecord.from_octets(record.to_octets()) == record
    (usable,) = read(signed.to_text()).usable
    assert usable.record == record
    assert len(unb64(usable.key_id)) == 16


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.integers(0), st.integers(1, 255))
def test_no_text_with_a_changed_byte_is_used(kind: str, place: int, change: int) -> None:
    text = bytearray(SIGNED[kind].to_text())
    text[place % len(text)] ^= change
    assert read(bytes(text)).usable == ()


@settings(max_examples=300)
@given(st.sampled_from(KINDS), st.integers(0), st.integers(1, 255))
def test_no_record_with_a_changed_byte_is_used(kind: str, place: int, change: int) -> None:
    octets = bytearray(RECORD.to_octets() + SIGNED[kind].signature)
    octets[place % len(octets)] ^= change
    records = read(PREFIX + b64(bytes(octets)).encode())
    assert records.usable == ()
    assert len(records.skipped) == 1


@settings(max_examples=200)
@given(st.sampled_from(KINDS), st.data())
def test_a_text_that_is_cut_or_longer_is_not_used(kind: str, data: st.DataObject) -> None:
    text = SIGNED[kind].to_text()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert read(cut).usable == ()
    assert read(text + data.draw(st.binary(min_size=1, max_size=40))).usable == ()


@given(st.lists(st.binary(max_size=60) | st.binary(max_size=2400).map(lambda octets: PREFIX + octets), max_size=12))
def test_a_record_is_used_whatever_stands_beside_it(others: list[bytes]) -> None:
    texts = [*others, SIGNED["RS256"].to_text()]
    records = read(*texts)
    assert records == read(*reversed(texts))
    assert len(records.usable) + len(records.skipped) <= MAX_RECORDS
    first = sorted({text for text in texts if text.startswith(PREFIX)})[:MAX_RECORDS]
    assert [epoch.record for epoch in records.usable] == [RECORD] * (SIGNED["RS256"].to_text() in first)


@given(st.lists(st.integers(1, 254), max_size=12))
def test_character_strings_may_be_cut_anywhere(lengths: list[int]) -> None:
    text = SIGNED["RS256"].to_text()
    strings = []
    for length in [*lengths, *[255] * 8]:
        strings.append(text[:length])
        text = text[length:]
    wire = b"".join(bytes([len(string)]) + string for string in strings)
    rdata: Any = dns.rdata.from_wire("IN", "TXT", wire, 0, len(wire))
    assert [epoch.record for epoch in read(b"".join(rdata.strings)).usable] == [RECORD]


@pytest.mark.parametrize("kind", KINDS)
def test_the_strings_of_a_record_fit_into_dns(kind: str) -> None:
    strings = SIGNED[kind].to_strings()
    assert b"".join(strings) == SIGNED[kind].to_text()
    assert {len(string) for string in strings[:-1]} == {255}
    written = " ".join(f'"{string.decode()}"' for string in strings)
    rdata: Any = dns.rdata.from_text("IN", "TXT", written)
    assert rdata.strings == strings


def test_the_helper_of_these_tests_signs_good_records() -> None:
    assert len(read(text_of(RECORD.to_octets())).usable) == 1
    assert len(read(text_of(RECORD.to_octets(), KEYS["RS256"])).usable) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (body_with(0, b"\2"), "its version is not 1; use newer software"),
        (body_with(0, b"\0"), "its version is not 1"),
        (body_with(1, b"\x08"), "its suite is 8, and only 9 is supported; use newer software"),
        (body_with(2, b"\0\1"), "its reserved bytes are not 0"),
        (body_with(2, b"\1\0"), "its reserved bytes are not 0"),
        (body_with(8, START.to_bytes(4, "big")), "which is not a period of time"),
        (body_with(8, (START - 1).to_bytes(4, "big")), "which is not a period of time"),
        (body_with(8, (START + 401 * DAY).to_bytes(4, "big")), "34646400 seconds, which is more than 34560000"),
        (body_with(8, (START + 400 * DAY + 1).to_bytes(4, "big")), "which is more than 34560000"),
        (body_with(12, b"\xff\xff"), "the ML-KEM-768 half of an epoch key is not valid"),
        (body_with(1196, bytes(32)), "the X25519 half of an epoch key has a small order"),
        (b"", "its version is not 1"),
        (b"\1", "instead of 1228"),
    ],
)
def test_a_signed_record_of_another_form_is_skipped(body: bytes, reason: str) -> None:
    assert reason in only_reason(text_of(body))


@pytest.mark.parametrize("life", [1, 400 * DAY])
def test_a_life_at_the_limit_is_used(life: int) -> None:
    assert len(read(text_of(body_with(8, (START + life).to_bytes(4, "big")))).usable) == 1


def test_one_byte_more_is_not_used() -> None:
    assert "its signature cannot have 65 bytes" in only_reason(text_of(RECORD.to_octets(), more=b"\0"))
    longer = read(text_of(RECORD.to_octets(), KEYS["RS256"], more=b"\0"))
    assert longer.usable == ()
    assert len(longer.skipped) == 1
    shorter = PREFIX + b64(RECORD.to_octets()).encode()
    assert "its signature cannot have 0 bytes" in only_reason(shorter)


@pytest.mark.parametrize("end", [b"=", b" ", b"\n", b"+", b"\xc3\xa9", b"\0"])
def test_a_text_that_is_not_strict_base64url_is_skipped(end: bytes) -> None:
    assert "it is not base64url" in only_reason(SIGNED["RS256"].to_text()[:-1] + end)


def test_spare_bits_are_not_accepted() -> None:
    text = SIGNED["RS256"].to_text()
    assert len(RECORD.to_octets() + SIGNED["RS256"].signature) % 3 == 2
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = last[last.index(text[-1:]) + 1 :][:1]
    assert "it is not base64url" in only_reason(text[:-1] + spare)


def test_a_text_of_any_size_is_refused_before_it_is_decoded() -> None:
    assert "which is more than 2327" in only_reason(PREFIX + b"A" * 60_000)


def test_the_longest_record_is_one_of_rsa_4096() -> None:
    key = PrivateKey(rsa.generate_private_key(65537, 4096))
    text = SignedEpochRecord.create(RECORD, NAME, key).to_text()
    assert len(text) == 2327
    assert len(read_epoch_records(NAME, [text], [*PUBLIC, key.public]).usable) == 1


def not_ours(text: bytes) -> bool:
    records = read(text)
    assert records.usable == ()
    return [skipped.is_signed_by_another for skipped in records.skipped] == [True]


def test_a_record_of_another_name_is_skipped() -> None:
    assert not_ours(text_of(RECORD.to_octets(), name=IdentityName("bob._device.example.com")))


def test_a_record_signed_by_another_key_is_skipped_and_says_so() -> None:
    assert not_ours(text_of(RECORD.to_octets(), PrivateKey(ec.generate_private_key(ec.SECP256R1()))))
    assert not_ours(text_of(RECORD.to_octets(), PrivateKey(rsa.generate_private_key(65537, 2048))))


def test_a_signature_without_the_purpose_is_not_one_of_a_record() -> None:
    body = RECORD.to_octets()
    signature = signatures.sign(KEYS["ES256"], NAME.text.encode() + b"\0" + body)
    assert not_ours(PREFIX + b64(body + signature).encode())


def test_in_a_rollover_a_record_by_either_key_is_used_once_with_one_id() -> None:
    by_old, by_new = (SIGNED[kind].to_text() for kind in KINDS)
    both = read(by_old, by_new)
    assert [epoch.key_id for epoch in both.usable] == [RECORD.key_id(NAME)]
    assert both.skipped == ()
    after = read_epoch_records(NAME, [by_old, by_new], [KEYS[KINDS[1]].public])
    assert [epoch.key_id for epoch in after.usable] == [RECORD.key_id(NAME)]
    assert [skipped.is_signed_by_another for skipped in after.skipped] == [True]


def test_without_any_key_no_record_is_used() -> None:
    assert read_epoch_records(NAME, [SIGNED["RS256"].to_text()], []).usable == ()


def test_foreign_texts_are_ignored() -> None:
    foreign = [b"v=spf1 -all", b"", b"EPOCH1:AQ", b"epoch2:AQ", b" epoch1:AQ", b"\xff" * 300]
    records = read(*foreign, SIGNED["RS256"].to_text())
    assert len(records.usable) == 1
    assert records.skipped == ()
    assert read(*foreign) == EpochRecords((), ())


def test_only_the_first_8_records_in_the_order_of_their_bytes_are_read() -> None:
    good = SIGNED["RS256"].to_text()
    before = [PREFIX + b"A" * length for length in range(1, MAX_RECORDS + 1)]
    after = [PREFIX + b"z" * length for length in range(1, 1000)]
    assert all(text < good for text in before)
    assert len(read(*after, *before[1:], good).usable) == 1
    records = read(good, *before)
    assert records.usable == ()
    assert len(records.skipped) == MAX_RECORDS
    assert len(read(good, *after).skipped) == MAX_RECORDS - 1


def test_the_same_text_twice_counts_once() -> None:
    records = read(*[PREFIX] * MAX_RECORDS, SIGNED["RS256"].to_text())
    assert (len(records.usable), len(records.skipped)) == (1, 1)


def test_the_name_is_signed_in_lower_case_without_the_trailing_dot() -> None:
    assert RECORD.key_id(IdentityName("ALICE._Device.example.com.")) == RECORD.key_id(NAME)
    assert RECORD.key_id(IdentityName("bob._device.example.com")) != RECORD.key_id(NAME)


@pytest.mark.parametrize(
    ("start", "until", "suite"),
    [(-1, 5, 9), (5, 5, 9), (6, 5, 9), (2**32 - 2, 2**32, 9), (0, 400 * DAY + 1, 9), (0, 1, 8)],
)
def test_a_record_outside_its_limits_cannot_be_created(start: int, until: int, suite: int) -> None:
    with pytest.raises(MalformedRecordError):
        EpochRecord(start, until, KEY, suite)


@pytest.mark.parametrize("length", [0, 63, 65, 255, 513])
def test_a_signature_of_another_length_cannot_be_created(length: int) -> None:
    with pytest.raises(MalformedRecordError, match=f"cannot have {length} bytes"):
        SignedEpochRecord(RECORD, bytes(length))


def test_a_record_has_the_only_suite() -> None:
    assert RECORD.suite == HPKE_9_KE == RECORD.to_octets()[1]
    assert EpochPublicKey(RECORD.to_octets()[12:]) == KEY
