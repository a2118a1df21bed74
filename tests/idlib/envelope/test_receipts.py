"""Receipts: only the right device can read one, and nothing else is accepted as a receipt."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib import base64url
from idlib.algorithms import PrivateKey
from idlib.envelope import (
    Binding,
    decrypt,
    parse,
    parse_receipt,
    seal,
    seal_receipt,
    sign,
    sign_receipt,
    strict_json,
    verify_receipt,
)
from idlib.envelope.jws import _sign
from idlib.errors import Reason, Refusal
from testbed.forge import NOW, Forge

REFERENCE = "the message"


def receipt(forge: Forge, key: str = "P-256") -> str:
    binding = Binding.new(forge.alice, NOW)
    return sign_receipt(REFERENCE, sender=forge.bob, signing_key=forge.reader_keys[key], binding=binding)


def forged(forge: Forge, payload: bytes = b"", **changes: Any) -> str:
    """Return a correctly signed receipt with other header parameters; None leaves a parameter out."""
    usual = {"typ": "receipt+jws", **Binding.new(forge.alice, NOW).parameters(), "ref": REFERENCE}
    header = {name: value for name, value in (usual | changes).items() if value is not None}
    return _sign(base64url.encode(payload), header, forge.bob, forge.reader_keys["P-256"])


@pytest.mark.parametrize("key", ["RSA", "P-256"])
def test_the_sender_of_the_message_can_read_its_receipt(forge: Forge, key: str) -> None:
    payload = seal_receipt(
        REFERENCE,
        sender=forge.bob,
        signing_key=forge.reader_keys[key],
        encryption_key=forge.sender_keys[key].public,
        binding=Binding.new(forge.alice, NOW),
    )
    read = parse_receipt(decrypt(payload, forge.alice, [forge.sender_keys[key]]).signed)
    assert (read.sender, read.binding.audience, read.binding.issued_at) == (forge.bob, forge.alice, NOW)
    assert verify_receipt(read, [forge.reader_keys[key].public]) == REFERENCE


def test_a_receipt_signed_with_another_devices_key_is_refused(forge: Forge, other_rsa_key: PrivateKey) -> None:
    with pytest.raises(Refusal) as refusal:
        verify_receipt(parse_receipt(receipt(forge)), [other_rsa_key.public, forge.sender_keys["P-256"].public])
    assert refusal.value.reason is Reason.SIGNATURE_INVALID


def test_receipts_are_not_messages_and_messages_are_not_receipts(forge: Forge) -> None:
    with pytest.raises(Refusal) as refusal:
        parse(receipt(forge))
    assert refusal.value.reason is Reason.RECEIPT
    message = sign(
        "text", sender=forge.alice, signing_key=forge.sender_keys["P-256"], binding=Binding.new(forge.bob, NOW)
    )
    with pytest.raises(Refusal) as refusal:
        parse_receipt(message)
    assert refusal.value.reason is Reason.INNER_UNSUPPORTED


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, b"a text")),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, b"\0")),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, ref=None)),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, ref=7)),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, ref="")),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, ref="x" * 129)),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, ref=[REFERENCE])),
        (Reason.UNBOUND, lambda forge: forged(forge, aud=None, iat=None, jti=None)),
        (Reason.BINDING_MALFORMED, lambda forge: forged(forge, aud=None)),
        (Reason.BINDING_MALFORMED, lambda forge: forged(forge, iat="1")),
        (Reason.BINDING_MALFORMED, lambda forge: forged(forge, exp=NOW)),
        (Reason.INNER_UNSUPPORTED, lambda forge: forged(forge, crit=["ref"])),
        (Reason.INNER_UNSUPPORTED, lambda forge: forged(forge, typ=None)),
        (Reason.INNER_UNSUPPORTED, lambda forge: forged(forge, typ="JWT")),
        (Reason.INNER_MALFORMED, lambda forge: forged(forge, typ=True)),
    ],
)
def test_receipts_outside_the_profile_are_refused(forge: Forge, reason: Reason, make: Callable[[Forge], str]) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_receipt(make(forge))
    assert refusal.value.reason is reason


def test_an_unchanged_receipt_of_the_test_helper_is_accepted(forge: Forge) -> None:
    read = parse_receipt(forged(forge, typ="application/RECEIPT+jws"))
    assert verify_receipt(read, [forge.reader_keys["P-256"].public]) == REFERENCE


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda octets: octets.decode("latin-1")))
def test_any_text_is_a_receipt_or_refused(text: str) -> None:
    with pytest.raises(Refusal):
        parse_receipt(text)


@given(
    reference=st.text(st.characters(codec="utf-8"), min_size=1, max_size=32),
    expires=st.none() | st.integers(NOW + 1, 2**53 - 1),
)
def test_what_is_written_is_read(forge: Forge, reference: str, expires: int | None) -> None:
    binding = Binding(forge.alice, NOW, "identifier", expires)
    signed = sign_receipt(reference, sender=forge.bob, signing_key=forge.reader_keys["P-256"], binding=binding)
    read = parse_receipt(signed)
    assert (read.reference, read.binding) == (reference, binding)


@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_receipt_with_a_changed_byte_is_refused(forge: Forge, where: int, bit: int) -> None:
    signed = receipt(forge)
    octets = bytearray(signed.encode())
    octets[where % len(octets)] ^= 1 << bit
    try:
        read = parse_receipt(octets.decode())
        verify_receipt(read, [forge.reader_keys["P-256"].public])
    except (Refusal, UnicodeDecodeError):
        return
    # White space between members may change; nothing that is signed may.
    assert read == parse_receipt(signed)


@pytest.mark.parametrize("asks", [True, False])
def test_a_message_shows_if_it_asks_for_a_receipt(forge: Forge, asks: bool) -> None:  # noqa: FBT001
    payload = seal(
        "text",
        sender=forge.alice,
        signing_key=forge.sender_keys["P-256"],
        recipient=forge.bob,
        encryption_key=forge.reader_keys["P-256"].public,
        binding=Binding.new(forge.bob, NOW),
        ask_for_receipt=asks,
    )
    signed = decrypt(payload, forge.bob, [forge.reader_keys["P-256"]]).signed
    assert parse(signed).asks_for_receipt is asks
    header = strict_json.read_object(base64url.decode(strict_json.read_object(signed)["protected"]).decode())
    assert header.get("rcpt") is (True if asks else None)


def test_an_unbound_message_gets_no_receipt(forge: Forge) -> None:
    signed = _sign(base64url.encode(b"text"), {"rcpt": True}, forge.alice, forge.sender_keys["P-256"])
    assert not parse(signed).asks_for_receipt
