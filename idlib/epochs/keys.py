"""The key pair of an epoch: ML-KEM-768 (FIPS 203) with X25519 (RFC 7748), known to HPKE as MLKEM768-X25519.

Its KEM is number 0x647a of draft-ietf-hpke-pq-05. A private key is 32 random bytes; draft-connolly-cfrg-xwing-kem-11
defines how both halves are derived from them.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from idlib import base64url
from idlib.errors import UnsuitableKeyError

SEED_OCTETS: Final = 32
PUBLIC_OCTETS: Final = 1216
KEY_ID_OCTETS: Final = 16

_MLKEM_SEED_OCTETS: Final = 64
_MLKEM_PUBLIC_OCTETS: Final = 1184
_X25519_OCTETS: Final = 32


@dataclass(frozen=True, slots=True)
class EpochPublicKey:
    """The public half of an epoch key; equal keys have equal bytes.

    Args:
        octets: The ML-KEM-768 encapsulation key, then the X25519 public key.
        native: The key as an object of the `cryptography` package.

    Raises:
        UnsuitableKeyError: The bytes are not a key that a message can be encrypted to, or this installation of
            `cryptography` has no ML-KEM-768.
    """

    octets: bytes = field(repr=False)
    native: MLKEM768X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.octets) != PUBLIC_OCTETS:
            raise UnsuitableKeyError(
                f"an epoch key of {len(self.octets)} bytes is not supported", f"use {PUBLIC_OCTETS} bytes"
            )
        object.__setattr__(self, "native", _load(self.octets))


@dataclass(frozen=True, slots=True)
class IdentifiedEpochKey:
    """A recipient's epoch key with its id, which depends on the signed record that the key is published in.

    Args:
        key_id: 16 bytes in base64url.
        public: The key.

    Raises:
        UnsuitableKeyError: The id has another form.
    """

    key_id: str
    public: EpochPublicKey

    def __post_init__(self) -> None:
        try:
            octets = base64url.decode(self.key_id)
        except ValueError:
            raise UnsuitableKeyError("the id of an epoch key is not base64url") from None
        if len(octets) != KEY_ID_OCTETS:
            raise UnsuitableKeyError(f"the id of an epoch key has {len(octets)} bytes instead of {KEY_ID_OCTETS}")


@dataclass(frozen=True, slots=True)
class EpochPrivateKey:
    """The private half of an epoch key; its repr shows none of it.

    Args:
        seed: 32 random bytes, from which the whole key is derived.
        native: The key as an object of the `cryptography` package.
        public: The public half.

    Raises:
        UnsuitableKeyError: The seed has another length, or this installation of `cryptography` has no ML-KEM-768.
    """

    seed: bytes = field(repr=False)
    native: MLKEM768X25519PrivateKey = field(init=False, repr=False, compare=False)
    public: EpochPublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_OCTETS:
            raise UnsuitableKeyError(
                f"a seed of {len(self.seed)} bytes is not supported", f"use {SEED_OCTETS} random bytes"
            )
        expanded = hashlib.shake_256(self.seed).digest(_MLKEM_SEED_OCTETS + _X25519_OCTETS)
        try:
            mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_OCTETS])
        except UnsupportedAlgorithm:
            raise _without_mlkem() from None
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_OCTETS:])
        octets = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        object.__setattr__(self, "native", MLKEM768X25519PrivateKey(mlkem, x25519))
        object.__setattr__(self, "public", EpochPublicKey(octets))


def _load(octets: bytes) -> MLKEM768X25519PublicKey:
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(octets[:_MLKEM_PUBLIC_OCTETS])
    except UnsupportedAlgorithm:
        raise _without_mlkem() from None
    except ValueError:
        raise UnsuitableKeyError("the ML-KEM-768 half of an epoch key is not valid", "create a new key") from None
    x25519 = X25519PublicKey.from_public_bytes(octets[_MLKEM_PUBLIC_OCTETS:])
    try:
        # A point of small order gives zeros with every private key, which only the exchange refuses (RFC 7748, 6.1).
        _PROBE.exchange(x25519)
    except ValueError:
        raise UnsuitableKeyError("the X25519 half of an epoch key has a small order", "create a new key") from None
    return MLKEM768X25519PublicKey(mlkem, x25519)


def _without_mlkem() -> UnsuitableKeyError:
    return UnsuitableKeyError(
        "this installation of the cryptography package has no ML-KEM-768", "install its wheel from PyPI"
    )


# Any key will do: it protects nothing.
_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(range(_X25519_OCTETS)))
