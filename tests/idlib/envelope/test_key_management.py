from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.algorithms import PrivateKey
from idlib.envelope import key_management
from idlib.envelope.key_management import ephemeral_key, fits, unwrap, wrap
from testbed.forge import Forge, agree, b64, unb64

KINDS = ["RSA", "P-256"]
P256_MODULUS = 2**256 - 2**224 + 2**192 + 2**96 - 1


def ephemeral_of(parameters: Mapping[str, Any]) -> ec.EllipticCurvePublicKey | None:
    return ephemeral_key(*(unb64(parameters["epk"][name]) for name in ("x", "y"))) if parameters else None


def test_a_key_is_agreed_on_as_in_rfc_7518_appendix_c() -> None:
    """The example derives 128 bits, the first half of our 256, because one round of SHA-256 gives both."""
    alice = ephemeral_key(
        unb64("gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0"), unb64("SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps")
    )
    scalar = int.from_bytes(unb64("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw"))
    bob = ec.derive_private_key(scalar, ec.SECP256R1())
    assert bob.public_key().public_numbers().x == int.from_bytes(unb64("weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ"))
    other_info = bytes.fromhex("00000007 4131323847434d 00000005 416c696365 00000003 426f62 00000080")
    assert b64(key_management._agree(bob, alice, other_info)[:16]) == "VqqN6vgjbSBcIijNcacQGg"


def test_our_keys_are_derived_as_an_independent_implementation_does() -> None:
    ours, theirs = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    derived = key_management._agree(ours, theirs.public_key(), key_management._OTHER_INFO)
    assert derived == agree(theirs, ours.public_key(), b"ECDH-ES+A256KW", 256)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("octets", [32, 64])
def test_a_content_key_survives(forge: Forge, kind: str, octets: int) -> None:
    key, content_key = forge.reader_keys[kind], bytes(range(octets))
    wrapped = wrap(key.public, content_key)
    assert fits(key, key.algorithms.key_management, wrapped.encrypted_key, octets)
    assert unwrap(key, wrapped.encrypted_key, ephemeral_of(wrapped.parameters), octets) == content_key
    assert content_key.hex() not in repr(wrapped)
    assert wrap(key.public, content_key).encrypted_key != wrapped.encrypted_key


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_decryption_returns_another_random_key_each_time(forge: Forge, kind: str) -> None:
    key, content_key = forge.reader_keys[kind], bytes(range(64))
    wrapped = wrap(key.public, content_key)
    changed = wrapped.encrypted_key[:-1] + bytes([wrapped.encrypted_key[-1] ^ 1])
    results = {unwrap(key, changed, ephemeral_of(wrapped.parameters), 64) for _ in range(5)}
    assert len(results) == 5
    assert {len(result) for result in results} == {64}
    assert content_key not in results


@pytest.mark.parametrize("octets", [0, 32, 63, 65])
def test_a_content_key_of_another_length_is_replaced_by_a_random_one(forge: Forge, octets: int) -> None:
    key = forge.reader_keys["RSA"]
    results = {unwrap(key, wrap(key.public, bytes(octets)).encrypted_key, None, 64) for _ in range(5)}
    assert len(results) == 5
    assert {len(result) for result in results} == {64}


def test_a_label_or_another_hash_is_a_failed_decryption(forge: Forge) -> None:
    key, content_key = forge.reader_keys["RSA"], bytes(range(64))
    for mask, digest, label in (
        (hashes.SHA256(), hashes.SHA256(), b"label"),
        (hashes.SHA1(), hashes.SHA256(), None),
        (hashes.SHA256(), hashes.SHA1(), None),
    ):
        encrypted_key = key.public.native.encrypt(content_key, OAEP(MGF1(mask), digest, label))  # type: ignore[union-attr]
        assert unwrap(key, encrypted_key, None, 64) != content_key


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.binary(min_size=72, max_size=72) | st.binary(min_size=256, max_size=256))
def test_any_encrypted_key_gives_a_key_of_the_right_length(forge: Forge, kind: str, encrypted_key: bytes) -> None:
    ephemeral = forge.sender_keys["P-256"].public.native
    assert isinstance(ephemeral, ec.EllipticCurvePublicKey)
    assert len(unwrap(forge.reader_keys[kind], encrypted_key, ephemeral, 64)) == 64


def test_only_keys_of_the_right_type_and_length_fit(forge: Forge, rsa3072_key: PrivateKey) -> None:
    rsa, p256 = (forge.reader_keys[kind] for kind in KINDS)
    assert [fits(key, "RSA-OAEP-256", bytes(256), 64) for key in (rsa, rsa3072_key, p256)] == [True, False, False]
    assert [fits(key, "RSA-OAEP-256", bytes(384), 64) for key in (rsa, rsa3072_key, p256)] == [False, True, False]
    assert [fits(key, "ECDH-ES+A256KW", bytes(72), 64) for key in (rsa, p256)] == [False, True]
    assert [fits(p256, "ECDH-ES+A256KW", bytes(size), 32) for size in (32, 40, 72)] == [False, True, False]


@pytest.mark.parametrize(
    ("x", "y"), [(0, 0), (1, 1), (P256_MODULUS, 0), (P256_MODULUS + 5, 1), (2**256 - 1, 2**256 - 1)]
)
def test_coordinates_that_are_no_point_are_rejected(x: int, y: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ephemeral_key(x.to_bytes(32), y.to_bytes(32))


def test_a_coordinate_that_is_not_reduced_is_rejected() -> None:
    """The point with x = 5 exists; the same x plus the field's modulus must not be accepted for it."""
    y = pow(
        5**3 - 3 * 5 + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        (P256_MODULUS + 1) // 4,
        P256_MODULUS,
    )
    assert ephemeral_key((5).to_bytes(32), y.to_bytes(32)).public_numbers().x == 5
    with pytest.raises(ValueError, match=r".+"):
        ephemeral_key((P256_MODULUS + 5).to_bytes(32), y.to_bytes(32))


@pytest.mark.parametrize(("x", "y"), [(b"\1" * 31, b"\1" * 32), (b"", b""), (b"\1" * 33, b"\1" * 32)])
def test_coordinates_of_another_length_are_rejected(x: bytes, y: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ephemeral_key(x, y)
