"""The key management algorithm `HPKE-9-KE` of a JWE, which encrypts the content key to an epoch key.

It is registered by draft-ietf-jose-hpke-pq-pqt-00 and defined by draft-ietf-jose-hpke-encrypt-22, section 6: HPKE
(draft-ietf-hpke-hpke-05) in Base mode with the KEM MLKEM768-X25519 (0x647a), the KDF SHAKE256 (0x0011) and the AEAD
AES-256-GCM (0x0002).
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from idlib import base64url
from idlib.envelope import serialization
from idlib.envelope.content_encryption import ContentEncryption
from idlib.envelope.key_management import WrappedKey
from idlib.envelope.serialization import JWE
from idlib.epochs import KEY_ID_OCTETS, EpochPrivateKey, IdentifiedEpochKey

# The ML-KEM-768 ciphertext, then the ephemeral X25519 public key.
ENCAPSULATED_OCTETS: Final = 1088 + 32

_TAG_OCTETS: Final = 16
_UNSUPPORTED: Final = frozenset({"psk_id", "epk", "apu", "apv"})


@dataclass(frozen=True, slots=True)
class EpochShare:
    """What a message's header says about its encryption to an epoch key.

    Args:
        key_id: The id of the epoch key (`kid`).
        encapsulated: The encapsulated secret (`ek`).
    """

    key_id: str
    encapsulated: bytes = field(repr=False)


def wrap(key: IdentifiedEpochKey, content_key: bytes, encryption: ContentEncryption) -> WrappedKey:
    """Return the content key, encrypted.

    Args:
        key: The recipient's epoch key.
        content_key: The key that encrypts the content.
        encryption: What the content key is for.
    """
    sealed = _suite().encrypt(content_key, key.public.native, info=_info(encryption))
    parameters = {"kid": key.key_id, "ek": base64url.encode(sealed[:ENCAPSULATED_OCTETS])}
    return WrappedKey(sealed[ENCAPSULATED_OCTETS:], parameters)


def unwrap(key: EpochPrivateKey, share: EpochShare, encrypted_key: bytes, encryption: ContentEncryption) -> bytes:
    """Return the content key, or a random one if the encrypted key does not decrypt.

    The random key fails at the tag, as any wrong key does, so that no one can observe what failed (RFC 7516, section
    11.5).

    Args:
        key: The epoch key with the share's id; it is used once.
        share: From `read_share`.
        encrypted_key: The JWE encrypted key, whose length `check_length` has accepted.
        encryption: What the content key is for.
    """
    substitute = secrets.token_bytes(encryption.key_octets)
    with suppress(InvalidTag):
        return _suite().decrypt(share.encapsulated + encrypted_key, key.native, info=_info(encryption))
    return substitute


def read_share(header: dict[str, Any]) -> EpochShare:
    """Return what the protected header says about an epoch key.

    Args:
        header: The JWE protected header, whose `alg` is EPOCH_KEY_MANAGEMENT.

    Raises:
        Refusal: `kid` or `ek` is missing or malformed, or there is an unsupported parameter.
    """
    if unsupported := _UNSUPPORTED & header.keys():
        raise JWE.refuse_unsupported(f"the protected header has {min(unsupported)}")
    for name, prescribed in (("kid", KEY_ID_OCTETS), ("ek", ENCAPSULATED_OCTETS)):
        encoded = header.get(name)
        if not isinstance(encoded, str):
            raise JWE.refuse_malformed(f"{name} is missing or not a string")
        octets = serialization.read_octets(JWE, name, encoded)
        if len(octets) != prescribed:
            raise JWE.refuse_malformed(f"{name} has {len(octets)} bytes instead of {prescribed}")
    return EpochShare(header["kid"], octets)


def check_length(encrypted_key: bytes, encryption: ContentEncryption) -> None:
    """Check that an encrypted key has the length that encryption to an epoch key produces.

    Args:
        encrypted_key: The JWE encrypted key.
        encryption: What the content key is for.

    Raises:
        Refusal: It has another length.
    """
    prescribed = encryption.key_octets + _TAG_OCTETS
    if len(encrypted_key) != prescribed:
        raise JWE.refuse_malformed(f"encrypted_key has {len(encrypted_key)} bytes instead of {prescribed}")


def _info(encryption: ContentEncryption) -> bytes:
    """Return the Recipient_structure (draft-ietf-jose-hpke-encrypt-22, section 6), without further information."""
    return b"JOSE-HPKE rcpt\xff" + encryption.name.encode() + b"\xff"


@cache
def _suite() -> Suite:
    """Return the suite, which not every OpenSSL has; without it, messages to identity keys are still read."""
    return Suite(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM)
