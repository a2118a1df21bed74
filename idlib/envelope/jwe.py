"""The outer layer: a signed message encrypted to its recipient (RFC 7516)."""

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from idlib import base64url
from idlib.algorithms import EPOCH_KEY_MANAGEMENT, P256_ALGORITHMS, RSA_ALGORITHMS, PrivateKey, PublicKey
from idlib.envelope import key_management, serialization, strict_json
from idlib.envelope.content_encryption import A256CBC_HS512, A256GCM, ContentEncryption, encrypt_cbc_hs512
from idlib.envelope.serialization import JWE, JWS, shown
from idlib.errors import MalformedNameError, Reason, Refusal, UnknownEpochKey, UnsuitableKeyError
from idlib.names import IdentityName, parse_dns_uri

if TYPE_CHECKING:
    # Imported when it is needed, because it would slow down the start of `send`.
    from idlib.envelope import hpke
    from idlib.epochs import EpochPrivateKey, IdentifiedEpochKey

_KEY_MANAGEMENT: Final = frozenset(
    {RSA_ALGORITHMS.key_management, P256_ALGORITHMS.key_management, EPOCH_KEY_MANAGEMENT}
)
_CONTENT_ENCRYPTION: Final = {encryption.name: encryption for encryption in (A256CBC_HS512, A256GCM)}
NO_EPOCH_KEYS: Final[Mapping[str, "EpochPrivateKey"]] = MappingProxyType({})


class SealedTo(StrEnum):
    """The kind of key that a message was encrypted to."""

    IDENTITY = "identity"
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True)
class Decrypted:
    """The content of a message that was encrypted to the recipient.

    Args:
        signed: The inner layer, not verified yet.
        digest: SHA-256 of the encrypted message; the same for each copy, whatever its serialization.
        sealed_to: The kind of key that it was encrypted to.
    """

    signed: str
    digest: bytes
    sealed_to: SealedTo = SealedTo.IDENTITY


@dataclass(frozen=True, slots=True)
class _EncryptedMessage:
    """A JWE that is for the recipient and conforms to the profile; its ciphertext is not decoded and checked yet."""

    algorithm: str
    content_encryption: ContentEncryption
    ephemeral: ec.EllipticCurvePublicKey | None
    share: "hpke.EpochShare | None"
    protected: bytes
    encrypted_key: bytes = field(repr=False)
    iv: bytes
    tag: bytes
    encoded_ciphertext: str = field(repr=False)

    def fits(self, key: PrivateKey) -> bool:
        return key_management.fits(key, self.algorithm, self.encrypted_key, self.content_encryption.key_octets)

    @property
    def sealed_to(self) -> SealedTo:
        return SealedTo.IDENTITY if self.share is None else SealedTo.EPOCH


def encrypt(signed: str, *, recipient: IdentityName, encryption_key: "PublicKey | IdentifiedEpochKey") -> bytes:
    """Return the signed message encrypted, in flattened JSON serialization.

    Args:
        signed: From `sign`.
        recipient: The recipient.
        encryption_key: The recipient's identity key or epoch key; its type determines the algorithm.

    Raises:
        UnsuitableKeyError: The key cannot be used for encryption.
    """
    content_key = secrets.token_bytes(A256CBC_HS512.key_octets)
    if isinstance(encryption_key, PublicKey):
        algorithm = encryption_key.algorithms.key_management
        try:
            wrapped = key_management.wrap(encryption_key, content_key)
        except ValueError:
            raise UnsuitableKeyError(f"the key of {recipient} cannot be used for encryption") from None
    else:
        from idlib.envelope import hpke

        algorithm = EPOCH_KEY_MANAGEMENT
        wrapped = hpke.wrap(encryption_key, content_key, A256CBC_HS512)
    header = {"alg": algorithm, "enc": A256CBC_HS512.name, "typ": "JWE", "x5u": recipient.uri, **wrapped.parameters}
    protected = base64url.encode(strict_json.write_object(header).encode())
    iv = secrets.token_bytes(A256CBC_HS512.iv_octets)
    ciphertext, tag = encrypt_cbc_hs512(content_key, iv, signed.encode(), protected.encode())
    octets = (wrapped.encrypted_key, iv, ciphertext, tag)
    return serialization.write(JWE, (protected, *map(base64url.encode, octets))).encode()


def decrypt(
    payload: bytes,
    recipient: IdentityName,
    keys: Sequence[PrivateKey],
    epoch_keys: Mapping[str, "EpochPrivateKey"] = NO_EPOCH_KEYS,
) -> Decrypted:
    """Return the signed message in a received payload.

    A message that is outside the profile or for another recipient is refused before a private key is used. Each fitting
    key is used once. All failures to decrypt look the same to the sender (RFC 7516, section 11.5).

    Args:
        payload: Flattened JSON or compact serialization; the caller has limited its length.
        recipient: The owner of the keys.
        keys: The current and the previous keys, most likely first.
        epoch_keys: The epoch keys that are not destroyed yet, by their ids.

    Raises:
        Refusal: The payload is malformed, outside the profile or for another recipient, its epoch key is unknown, or
            no key decrypts it.
    """
    message = _read(payload, recipient)
    unwrapping = _unwrapping(message, keys, epoch_keys)
    # Decoded only if a key may open it, because it can be long.
    ciphertext = _read_ciphertext(message) if unwrapping else b""
    prescribed = message.content_encryption
    for unwrap in unwrapping:
        plaintext = prescribed.decrypt(unwrap(), message.iv, ciphertext, message.tag, message.protected)
        if plaintext is not None:
            signed = serialization.read_utf8(JWS, "the plaintext", plaintext)
            return Decrypted(signed, _digest(message, ciphertext), message.sealed_to)
    raise Refusal(Reason.DECRYPTION_FAILED, f"no key of {recipient} decrypts the message")


def _read(payload: bytes, recipient: IdentityName) -> _EncryptedMessage:
    protected, *encoded = serialization.read(JWE, serialization.read_utf8(JWE, "the message", payload))
    encoded_key, encoded_iv, encoded_ciphertext, encoded_tag = encoded
    header = serialization.read_header(JWE, protected)
    algorithm = _read_name(header, "alg", _KEY_MANAGEMENT)
    content_encryption = _CONTENT_ENCRYPTION[_read_name(header, "enc", _CONTENT_ENCRYPTION)]
    _check_recipient(header, recipient)
    encrypted_key = serialization.read_octets(JWE, "encrypted_key", encoded_key)
    iv = _read_part("iv", encoded_iv, content_encryption.iv_octets)
    tag = _read_part("tag", encoded_tag, content_encryption.tag_octets)
    ephemeral = _read_epk(header) if algorithm == P256_ALGORITHMS.key_management else None
    share = None
    if algorithm == EPOCH_KEY_MANAGEMENT:
        from idlib.envelope import hpke

        hpke.check_length(encrypted_key, content_encryption)
        share = hpke.read_share(header)
    return _EncryptedMessage(
        algorithm, content_encryption, ephemeral, share, protected.encode(), encrypted_key, iv, tag, encoded_ciphertext
    )


def _read_name(header: dict[str, Any], parameter: str, supported: Collection[str]) -> str:
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
    if uri == recipient.uri:
        return
    try:
        named = parse_dns_uri(uri)
    except MalformedNameError:
        raise JWE.refuse_malformed(f"x5u {shown(uri)} is not a DNS URI of TLSA records") from None
    if named != recipient:
        raise Refusal(Reason.NOT_FOR_US, f"the message is for {shown(named.text)}")


def _read_epk(header: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    """Return the ephemeral public key, which is a point on P-256, so that it is safe to use."""
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
    if len(x) != key_management.COORDINATE_OCTETS or len(y) != key_management.COORDINATE_OCTETS:
        raise JWE.refuse_malformed(f"a coordinate of epk does not have {key_management.COORDINATE_OCTETS} bytes")
    try:
        return key_management.ephemeral_key(x, y)
    except ValueError:
        raise JWE.refuse_malformed("epk is not a point on P-256") from None


def _read_part(name: str, encoded: str, prescribed: int) -> bytes:
    octets = serialization.read_octets(JWE, name, encoded)
    if len(octets) != prescribed:
        raise JWE.refuse_malformed(f"{name} has {len(octets)} bytes instead of {prescribed}")
    return octets


def _read_ciphertext(message: _EncryptedMessage) -> bytes:
    ciphertext = serialization.read_octets(JWE, "ciphertext", message.encoded_ciphertext)
    prescribed = message.content_encryption
    if not ciphertext or len(ciphertext) % prescribed.block_octets:
        raise JWE.refuse_malformed(f"a ciphertext of {len(ciphertext)} bytes does not fit {prescribed.name}")
    return ciphertext


def _unwrapping(
    message: _EncryptedMessage, keys: Sequence[PrivateKey], epoch_keys: Mapping[str, "EpochPrivateKey"]
) -> Sequence[Callable[[], bytes]]:
    """Return, for each key that fits, what decrypts the content key with it."""
    prescribed, encrypted_key = message.content_encryption, message.encrypted_key
    if message.share is None:
        arguments = (encrypted_key, message.ephemeral, prescribed.key_octets)
        return [partial(key_management.unwrap, key, *arguments) for key in keys if message.fits(key)]
    from idlib.envelope import hpke

    epoch_key = epoch_keys.get(message.share.key_id)
    if epoch_key is None:
        raise UnknownEpochKey(message.share.key_id)
    return [partial(hpke.unwrap, epoch_key, message.share, encrypted_key, prescribed)]


def _digest(message: _EncryptedMessage, ciphertext: bytes) -> bytes:
    digest = hashlib.sha256(message.protected + b"." + message.iv)
    digest.update(ciphertext)
    digest.update(message.tag)
    return digest.digest()
