"""The outer layer: a signed message encrypted to its recipient (RFC 7516)."""

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap
from jwcrypto.common import JWException
from jwcrypto.jwa import JWA

from idlib.algorithms import P256_ALGORITHMS, RSA_ALGORITHMS, PrivateKey, PublicKey
from idlib.envelope import base64url, serialization, strict_json
from idlib.envelope.serialization import JWE, JWS, shown
from idlib.errors import MalformedNameError, Reason, Refusal, UnsuitableKeyError
from idlib.names import IdentityName, parse_dns_uri

_KEY_WRAP_OVERHEAD: Final = 8
_COORDINATE_OCTETS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class _ContentEncryption:
    """An `enc`, with the lengths in bytes that it requires (RFC 7518, sections 5.2.5 and 5.3)."""

    name: str
    key_octets: int
    iv_octets: int
    tag_octets: int
    block_octets: int
    algorithm: Any


# Not jwcrypto's JWE class, because it parses the message again, accepts more than the profile does, and reports a
# failed key decryption and a wrong tag differently. These are its algorithms, and no others can be used.
_KEY_MANAGEMENT: Final = {
    algorithms.key_management: JWA.keymgmt_alg(algorithms.key_management)
    for algorithms in (RSA_ALGORITHMS, P256_ALGORITHMS)
}
_ENCRYPTION_WE_SEND: Final = _ContentEncryption("A256CBC-HS512", 64, 16, 32, 16, JWA.encryption_alg("A256CBC-HS512"))
_CONTENT_ENCRYPTION: Final = {
    _ENCRYPTION_WE_SEND.name: _ENCRYPTION_WE_SEND,
    "A256GCM": _ContentEncryption("A256GCM", 32, 12, 16, 1, JWA.encryption_alg("A256GCM")),
}


@dataclass(frozen=True, slots=True)
class Decrypted:
    """The content of a message that was encrypted to the recipient.

    Args:
        signed: The inner layer, not verified yet.
        digest: SHA-256 of the encrypted message; the same for each copy, whatever its serialization.
    """

    signed: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class _EncryptedMessage:
    """A JWE that is for the recipient and conforms to the profile, so that it may cost a private-key operation."""

    algorithm: str
    content_encryption: _ContentEncryption
    key_parameters: dict[str, Any]
    protected: bytes
    encrypted_key: bytes = field(repr=False)
    iv: bytes
    ciphertext: bytes = field(repr=False)
    tag: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.protected + b"." + self.iv + self.ciphertext + self.tag).digest()


def encrypt(signed: str, *, recipient: IdentityName, encryption_key: PublicKey) -> bytes:
    """Return the signed message encrypted, in flattened JSON serialization.

    Args:
        signed: From `sign`.
        recipient: The recipient.
        encryption_key: The recipient's key; its type determines the algorithm.

    Raises:
        UnsuitableKeyError: The key cannot be used for encryption.
    """
    algorithm = encryption_key.algorithms.key_management
    header = {"alg": algorithm, "enc": _ENCRYPTION_WE_SEND.name, "typ": "JWE", "x5u": recipient.uri}
    try:
        wrapped = _KEY_MANAGEMENT[algorithm].wrap(encryption_key.jwk, _ENCRYPTION_WE_SEND.key_octets * 8, None, header)
    except ValueError:
        raise UnsuitableKeyError(f"the key of {recipient} cannot be used for encryption") from None
    header |= wrapped.get("header", {})
    protected = base64url.encode(strict_json.write_object(header).encode())
    iv, ciphertext, tag = _ENCRYPTION_WE_SEND.algorithm.encrypt(wrapped["cek"], protected.encode(), signed.encode())
    octets = (wrapped["ek"], iv, ciphertext, tag)
    return serialization.write(JWE, (protected, *map(base64url.encode, octets))).encode()


def decrypt(payload: bytes, recipient: IdentityName, keys: Sequence[PrivateKey]) -> Decrypted:
    """Return the signed message in a received payload.

    A message that is outside the profile or for another recipient is refused before a private key is used. Each fitting
    key is used once. All failures to decrypt look the same to the sender (RFC 7516, section 11.5).

    Args:
        payload: Flattened JSON or compact serialization; the caller has limited its length.
        recipient: The owner of the keys.
        keys: The current and the previous keys, most likely first.

    Raises:
        Refusal: The payload is malformed, outside the profile or for another recipient, or no key decrypts it.
    """
    message = _read(payload, recipient)
    for key in keys:
        if not _fits(message, key):
            continue
        plaintext = _open(message, key)
        if plaintext is not None:
            return Decrypted(serialization.read_utf8(JWS, "the plaintext", plaintext), message.digest)
    raise Refusal(Reason.DECRYPTION_FAILED, f"no key of {recipient} decrypts the message")


def _read(payload: bytes, recipient: IdentityName) -> _EncryptedMessage:
    parts = serialization.read(JWE, serialization.read_utf8(JWE, "the message", payload))
    protected = parts[0]
    header = serialization.read_header(JWE, protected)
    algorithm = _read_name(header, "alg", _KEY_MANAGEMENT)
    content_encryption = _CONTENT_ENCRYPTION[_read_name(header, "enc", _CONTENT_ENCRYPTION)]
    _check_recipient(header, recipient)
    key_parameters = {"alg": algorithm, "epk": _read_epk(header)} if algorithm == P256_ALGORITHMS.key_management else {}
    octets = [serialization.read_octets(JWE, name, part) for name, part in zip(JWE.members[1:], parts[1:], strict=True)]
    message = _EncryptedMessage(algorithm, content_encryption, key_parameters, protected.encode(), *octets)
    _check_lengths(message)
    return message


def _read_name(header: dict[str, Any], parameter: str, supported: dict[str, Any]) -> str:
    name = header.get(parameter)
    if not isinstance(name, str):
        raise JWE.refuse_malformed(f"{parameter} is missing or not a string")
    if name not in supported:
        raise JWE.refuse_unsupported(f"{parameter} {shown(name)}")
    return name


def _check_recipient(header: dict[str, Any], recipient: IdentityName) -> None:
    uri = header.get("x5u")
    if not isinstance(uri, str):
        raise JWE.refuse_malformed("x5u is missing or not a string")
    try:
        named = parse_dns_uri(uri)
    except MalformedNameError:
        raise JWE.refuse_malformed(f"x5u {shown(uri)} is not a DNS URI of TLSA records") from None
    if named != recipient:
        raise Refusal(Reason.NOT_FOR_US, f"the message is for {shown(named.text)}")


def _read_epk(header: dict[str, Any]) -> dict[str, str]:
    """Return only the ephemeral public key, after checking that it is a point on P-256, so that it is safe to use."""
    if agreement := {"apu", "apv"} & header.keys():
        raise JWE.refuse_unsupported(f"the protected header has {min(agreement)}")
    epk = header.get("epk")
    if not isinstance(epk, dict) or not all(isinstance(epk.get(name), str) for name in ("kty", "crv", "x", "y")):
        raise JWE.refuse_malformed("epk is missing or not an EC public key")
    if (epk["kty"], epk["crv"]) != ("EC", "P-256"):
        raise JWE.refuse_unsupported(f"epk has kty {shown(epk['kty'])} and crv {shown(epk['crv'])}")
    if "d" in epk:
        raise JWE.refuse_malformed("epk has a private key")
    x, y = (serialization.read_octets(JWE, f"epk's {name}", epk[name]) for name in ("x", "y"))
    if len(x) != _COORDINATE_OCTETS or len(y) != _COORDINATE_OCTETS:
        raise JWE.refuse_malformed(f"a coordinate of epk does not have {_COORDINATE_OCTETS} bytes")
    try:
        ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()).public_key()
    except ValueError:
        raise JWE.refuse_malformed("epk is not a point on P-256") from None
    return {name: epk[name] for name in ("kty", "crv", "x", "y")}


def _check_lengths(message: _EncryptedMessage) -> None:
    prescribed = message.content_encryption
    if len(message.iv) != prescribed.iv_octets:
        raise JWE.refuse_malformed(f"an iv of {len(message.iv)} bytes does not fit {prescribed.name}")
    if len(message.tag) != prescribed.tag_octets:
        raise JWE.refuse_malformed(f"a tag of {len(message.tag)} bytes does not fit {prescribed.name}")
    if not message.ciphertext or len(message.ciphertext) % prescribed.block_octets:
        raise JWE.refuse_malformed(f"a ciphertext of {len(message.ciphertext)} bytes does not fit {prescribed.name}")


def _fits(message: _EncryptedMessage, key: PrivateKey) -> bool:
    """Return whether the key has the type that `alg` needs, and the encrypted key the right length."""
    if key.algorithms.key_management != message.algorithm:
        return False
    if isinstance(key.native, rsa.RSAPrivateKey):
        return len(message.encrypted_key) == (key.native.key_size + 7) // 8
    return len(message.encrypted_key) == message.content_encryption.key_octets + _KEY_WRAP_OVERHEAD


def _open(message: _EncryptedMessage, key: PrivateKey) -> bytes | None:
    prescribed = message.content_encryption
    content_key = secrets.token_bytes(prescribed.key_octets)
    # If the key decryption fails, the random key is used instead and fails at the tag, as any wrong key does.
    with suppress(ValueError, InvalidUnwrap, JWException):
        content_key = _KEY_MANAGEMENT[message.algorithm].unwrap(
            key.jwk, prescribed.key_octets * 8, message.encrypted_key, message.key_parameters
        )
    try:
        plaintext: bytes = prescribed.algorithm.decrypt(
            content_key, message.protected, message.iv, message.ciphertext, message.tag
        )
    except (ValueError, InvalidSignature, InvalidTag):
        return None
    return plaintext
