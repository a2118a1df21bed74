"""Epoch keys: derived from a seed, checked when created, never shown."""

import hashlib
import secrets
from typing import Final

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from idlib.epochs import PUBLIC_OCTETS, SEED_OCTETS, EpochPrivateKey, EpochPublicKey
from idlib.errors import UnsuitableKeyError

SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM)
SEED: Final = bytes(range(SEED_OCTETS))
OCTETS: Final = EpochPrivateKey(SEED).public.octets
# The u-coordinates of small order on Curve25519, and those that equal them modulo 2^255 - 19 or in the highest bit.
PRIME: Final = 2**255 - 19
SMALL_ORDER: Final = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
    PRIME,
    PRIME + 1,
    2**255,
    2**255 + 1,
    2**256 - 19 - 1,
]


def test_a_seed_gives_the_same_key_every_time() -> None:
    assert EpochPrivateKey(SEED).public == EpochPrivateKey(SEED).public
    assert len(OCTETS) == PUBLIC_OCTETS
    assert EpochPrivateKey(bytes(SEED_OCTETS)).public != EpochPrivateKey(SEED).public


def test_the_halves_are_derived_with_shake256() -> None:
    expanded = hashlib.shake_256(SEED).digest(96)
    assert MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw() == OCTETS[:1184]


@given(seed=st.binary(min_size=SEED_OCTETS, max_size=SEED_OCTETS), text=st.binary(max_size=80))
def test_what_is_encrypted_to_the_public_octets_opens_with_the_seed(seed: bytes, text: bytes) -> None:
    private = EpochPrivateKey(seed)
    sealed = SUITE.encrypt(text, EpochPublicKey(private.public.octets).native)
    assert SUITE.decrypt(sealed, private.native) == text


def test_no_repr_shows_the_seed() -> None:
    seed = secrets.token_bytes(SEED_OCTETS)
    shown = repr(EpochPrivateKey(seed))
    assert shown == "EpochPrivateKey()"
    assert repr(EpochPrivateKey(seed).public) == "EpochPublicKey()"


@pytest.mark.parametrize("length", [0, SEED_OCTETS - 1, SEED_OCTETS + 1, 96])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UnsuitableKeyError, match=f"a seed of {length} bytes"):
        EpochPrivateKey(bytes(length))


@pytest.mark.parametrize("length", [0, 32, 1184, PUBLIC_OCTETS - 1, PUBLIC_OCTETS + 1])
def test_a_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(UnsuitableKeyError, match=f"an epoch key of {length} bytes"):
        EpochPublicKey(bytes(length))


@pytest.mark.parametrize("position", [0, 3, 600, 1149])
def test_a_coefficient_above_the_modulus_is_refused(position: int) -> None:
    # FIPS 203, section 7.2: each coefficient has 12 bits, and must be below 3329.
    octets = bytearray(OCTETS)
    octets[position : position + 3] = b"\xff\xff\xff"
    with pytest.raises(UnsuitableKeyError, match="the ML-KEM-768 half"):
        EpochPublicKey(bytes(octets))


@pytest.mark.parametrize("coordinate", SMALL_ORDER)
def test_an_x25519_key_of_small_order_is_refused(coordinate: int) -> None:
    with pytest.raises(UnsuitableKeyError, match="the X25519 half"):
        EpochPublicKey(OCTETS[:1184] + coordinate.to_bytes(32, "little"))


@given(octets=st.binary(min_size=PUBLIC_OCTETS, max_size=PUBLIC_OCTETS))
def test_random_bytes_are_a_key_or_refused_as_one(octets: bytes) -> None:
    try:
        key = EpochPublicKey(octets)
    except UnsuitableKeyError:
        return
    SUITE.encrypt(b"text", key.native)


def test_a_library_without_ml_kem_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(octets: bytes) -> None:
        raise UnsupportedAlgorithm("ML-KEM-768")

    monkeypatch.setattr(MLKEM768PublicKey, "from_public_bytes", staticmethod(unsupported))
    monkeypatch.setattr(MLKEM768PrivateKey, "from_seed_bytes", staticmethod(unsupported))
    with pytest.raises(UnsuitableKeyError, match="no ML-KEM-768; install its wheel"):
        EpochPublicKey(OCTETS)
    with pytest.raises(UnsuitableKeyError, match="no ML-KEM-768; install its wheel"):
        EpochPrivateKey(SEED)
