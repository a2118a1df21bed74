import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib import signatures
from idlib.algorithms import PrivateKey
from testbed.forge import Forge

KINDS = ["RSA", "P-256"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_key_and_the_bytes_that_were_signed_are_valid(
    forge: Forge, kind: str, other_rsa_key: PrivateKey
) -> None:
    key, other = forge.sender_keys[kind], {"RSA": other_rsa_key, "P-256": forge.reader_keys["P-256"]}[kind]
    signature = signatures.sign(key, b"signed")
    assert len(signature) in signatures.LENGTHS[key.algorithms.signature]
    assert signatures.is_valid(key.public, signature, b"signed")
    assert not signatures.is_valid(key.public, signature, b"signee")
    assert not signatures.is_valid(other.public, signature, b"signed")


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(st.data())
def test_a_changed_bit_is_not_valid(forge: Forge, kind: str, data: st.DataObject) -> None:
    key = forge.sender_keys[kind]
    signature = bytearray(signatures.sign(key, b"signed"))
    place = data.draw(st.integers(0, len(signature) * 8 - 1))
    signature[place // 8] ^= 1 << place % 8
    assert not signatures.is_valid(key.public, bytes(signature), b"signed")


def test_a_signature_of_a_longer_key_is_not_valid(forge: Forge, rsa3072_key: PrivateKey) -> None:
    signature = signatures.sign(rsa3072_key, b"signed")
    assert signatures.is_valid(rsa3072_key.public, signature, b"signed")
    assert not signatures.is_valid(forge.sender_keys["RSA"].public, signature, b"signed")
    assert not signatures.is_valid(rsa3072_key.public, signatures.sign(forge.sender_keys["RSA"], b"signed"), b"signed")


@pytest.mark.parametrize("half", [0, 32])
def test_a_short_number_of_a_p256_signature_keeps_its_place(forge: Forge, half: int) -> None:
    """One signature in 256 has such a number; the probability that none of 10000 has is below 10^-16."""
    key = forge.sender_keys["P-256"]
    signed = (signatures.sign(key, b"signed") for _ in range(10_000))
    signature = next(signature for signature in signed if signature[half] == 0)
    assert len(signature) == 64
    assert signatures.is_valid(key.public, signature, b"signed")
