"""The key management algorithms (`alg`) of a JWE: RSA-OAEP-256 and ECDH-ES+A256KW (RFC 7518, sections 4.3 and 4.6)."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from idlib import base64url
from idlib.algorithms import P256_ALGORITHMS, PrivateKey, PublicKey

COORDINATE_OCTETS: Final = 32

_KEY_WRAP_OVERHEAD: Final = 8
_WRAPPING_KEY_OCTETS: Final = 32
_UNCOMPRESSED: Final = b"\4"
_SHA256: Final = hashes.SHA256()
_OAEP: Final = OAEP(MGF1(_SHA256), _SHA256, None)
_CURVE: Final = ec.SECP256R1()
_ECDH: Final = ec.ECDH()


def _with_length(octets: bytes) -> bytes:
    return len(octets).to_bytes(4) + octets


# AlgorithmID, PartyUInfo, PartyVInfo and SuppPubInfo of RFC 7518, section 4.6.2; `apu` and `apv` are empty.
_OTHER_INFO: Final = (
    _with_length(P256_ALGORITHMS.key_management.encode())
    + _with_length(b"")
    + _with_length(b"")
    + (_WRAPPING_KEY_OCTETS * 8).to_bytes(4)
)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A content key, encrypted to a recipient.

    Args:
        encrypted_key: The JWE encrypted key.
        parameters: The header parameters that it needs.
    """

    encrypted_key: bytes = field(repr=False)
    parameters: Mapping[str, str | dict[str, str]]


def wrap(key: PublicKey, content_key: bytes) -> WrappedKey:
    """Return the content key, encrypted.

    Args:
        key: The recipient's key.
        content_key: The key that encrypts the content.

    Raises:
        ValueError: The key cannot be used for encryption.
    """
    if isinstance(key.native, rsa.RSAPublicKey):
        return WrappedKey(key.native.encrypt(content_key, _OAEP), {})
    ephemeral = ec.generate_private_key(_CURVE)
    encrypted_key = aes_key_wrap(_agree(ephemeral, key.native, _OTHER_INFO), content_key)
    return WrappedKey(encrypted_key, {"epk": _public_jwk(ephemeral.public_key())})


def unwrap(
    key: PrivateKey, encrypted_key: bytes, ephemeral: ec.EllipticCurvePublicKey | None, key_octets: int
) -> bytes:
    """Return the content key, or a random one if the encrypted key does not decrypt to a key of its length.

    The random key fails at the tag, as any wrong key does, so that no one can observe what failed (RFC 7516, section
    11.5).

    Args:
        key: A key that `fits`; it is used once.
        encrypted_key: The JWE encrypted key.
        ephemeral: The ephemeral public key (`epk`); None with RSA.
        key_octets: The length of the content key in bytes.
    """
    substitute = secrets.token_bytes(key_octets)
    with suppress(ValueError, InvalidUnwrap):
        content_key = _decrypt_key(key, encrypted_key, ephemeral)
        if len(content_key) == key_octets:
            return content_key
    return substitute


def fits(key: PrivateKey, algorithm: str, encrypted_key: bytes, key_octets: int) -> bool:
    """Return whether a key has the type that `alg` needs, and the encrypted key the length that the key produces.

    Args:
        key: The recipient's key.
        algorithm: The JWE `alg`.
        encrypted_key: The JWE encrypted key.
        key_octets: The length of the content key in bytes.
    """
    if key.algorithms.key_management != algorithm:
        return False
    if isinstance(key.native, rsa.RSAPrivateKey):
        return len(encrypted_key) == (key.native.key_size + 7) // 8
    return len(encrypted_key) == key_octets + _KEY_WRAP_OVERHEAD


def ephemeral_key(x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key at a point of P-256, which is then safe to use.

    Args:
        x: The first coordinate.
        y: The second coordinate.

    Raises:
        ValueError: There is no such point.
    """
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, _UNCOMPRESSED + x + y)


def _decrypt_key(key: PrivateKey, encrypted_key: bytes, ephemeral: ec.EllipticCurvePublicKey | None) -> bytes:
    if isinstance(key.native, rsa.RSAPrivateKey):
        return key.native.decrypt(encrypted_key, _OAEP)
    if ephemeral is None:
        raise ValueError("no ephemeral key")
    return aes_key_unwrap(_agree(key.native, ephemeral, _OTHER_INFO), encrypted_key)


def _agree(ours: ec.EllipticCurvePrivateKey, theirs: ec.EllipticCurvePublicKey, other_info: bytes) -> bytes:
    """Return the key that both sides derive from the shared secret with the Concat KDF."""
    return ConcatKDFHash(_SHA256, _WRAPPING_KEY_OCTETS, other_info).derive(ours.exchange(_ECDH, theirs))


def _public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (base64url.encode(number.to_bytes(COORDINATE_OCTETS)) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}
