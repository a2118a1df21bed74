"""The inner layer: a text signed by its sender, or a receipt for one signed by its recipient (RFC 7515)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from idlib import base64url, signatures
from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import serialization, strict_json
from idlib.envelope.binding import Binding, is_identifier, read_binding
from idlib.envelope.serialization import JWS, shown
from idlib.errors import MalformedNameError, MessageError, Reason, Refusal
from idlib.names import IdentityName, parse_dns_uri

_MESSAGE_TYPE: Final = "jose"
_MESSAGE_TYPES: Final = frozenset({_MESSAGE_TYPE, "jose+json"})
_RECEIPT_TYPE: Final = "receipt+jws"


@dataclass(frozen=True, slots=True)
class UnverifiedMessage:
    """A well-formed JWS that is not verified yet: anyone can have written it, under any name.

    Args:
        sender: The sender that the message names.
        algorithm: The JWS `alg`.
        binding: The recipient and the time that the message names; None if it is unbound.
        signing_input: The bytes that are signed (RFC 7515, section 5.1).
        signature: The signature, in the form of `alg`.
        unverified_text: The text; only `verify` may return it.
    """

    sender: IdentityName
    algorithm: str
    binding: Binding | None
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    unverified_text: str = field(repr=False)
    asks_for_receipt: bool = False


@dataclass(frozen=True, slots=True)
class UnverifiedReceipt:
    """A well-formed receipt that is not verified yet: anyone can have written it, under any name.

    Args:
        sender: The device that, by the receipt, has printed the message.
        algorithm: The JWS `alg`.
        binding: The recipient and the time that the receipt names.
        reference: The identifier (`jti`) of the message.
        signing_input: The bytes that are signed (RFC 7515, section 5.1).
        signature: The signature, in the form of `alg`.
    """

    sender: IdentityName
    algorithm: str
    binding: Binding
    reference: str
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def sign(
    text: str, *, sender: IdentityName, signing_key: PrivateKey, binding: Binding, ask_for_receipt: bool = False
) -> str:
    """Return the text as a signed message in flattened JSON serialization.

    Args:
        text: At least one character.
        sender: The sender, whose public key is in DNS.
        signing_key: The sender's key; its type determines the algorithm.
        binding: The recipient and the time.
        ask_for_receipt: Whether the recipient should confirm that it has printed the message.

    Raises:
        MessageError: The text is empty, or has half a surrogate pair, which UTF-8 cannot encode.
    """
    if not text:
        raise MessageError("the message is empty", "give at least one character")
    try:
        payload = base64url.encode(text.encode())
    except UnicodeEncodeError:
        raise MessageError("the message cannot be encoded as UTF-8", "leave out lone surrogates") from None
    parameters: dict[str, Any] = {**binding.parameters(), **({"rcpt": True} if ask_for_receipt else {})}
    return _sign(payload, parameters, sender, signing_key)


def sign_receipt(reference: str, *, sender: IdentityName, signing_key: PrivateKey, binding: Binding) -> str:
    """Return a signed receipt in flattened JSON serialization.

    Args:
        reference: The identifier (`jti`) of the message that has been printed.
        sender: The device that has printed it.
        signing_key: That device's key; its type determines the algorithm.
        binding: The message's sender as the recipient, and the time.
    """
    parameters = {"typ": _RECEIPT_TYPE, **binding.parameters(), "ref": reference}
    return _sign("", parameters, sender, signing_key)


def parse(signed: str) -> UnverifiedMessage:
    """Return a signed message, checked except for its signature.

    Args:
        signed: Flattened JSON or compact serialization; the caller has limited its length.

    Raises:
        Refusal: The message is malformed or outside the profile.
    """
    part = _read(signed)
    media_type = _media_type(part.header)
    if media_type == _RECEIPT_TYPE:
        raise Refusal(Reason.RECEIPT, "a receipt is not a message")
    if media_type not in _MESSAGE_TYPES:
        raise JWS.refuse_unsupported(f"typ {shown(media_type)}")
    sender = _read_sender(part.header)
    binding = read_binding(part.header)
    asks_for_receipt = part.header.get("rcpt", False)
    if not isinstance(asks_for_receipt, bool):
        raise JWS.refuse_malformed("rcpt is neither true nor false")
    text = _read_text(part.payload)
    signature = _read_signature(part)
    return UnverifiedMessage(
        sender, part.algorithm, binding, part.signing_input, signature, text, asks_for_receipt and binding is not None
    )


def parse_receipt(signed: str) -> UnverifiedReceipt:
    """Return a receipt, checked except for its signature.

    Args:
        signed: Flattened JSON or compact serialization; the caller has limited its length.

    Raises:
        Refusal: The text is not a receipt, malformed or outside the profile.
    """
    part = _read(signed)
    if _media_type(part.header) != _RECEIPT_TYPE:
        raise JWS.refuse_unsupported("a message is not a receipt")
    sender = _read_sender(part.header)
    binding = read_binding(part.header)
    if binding is None:
        raise Refusal(Reason.UNBOUND, "a receipt must be bound")
    reference = part.header.get("ref")
    if not isinstance(reference, str) or not is_identifier(reference):
        raise JWS.refuse_malformed("ref is missing or not a message identifier")
    if part.payload:
        raise JWS.refuse_malformed("a receipt has a payload")
    return UnverifiedReceipt(sender, part.algorithm, binding, reference, part.signing_input, _read_signature(part))


def verify(message: UnverifiedMessage, keys: Iterable[PublicKey]) -> str:
    """Return the text of a message that one of the sender's keys has signed.

    Args:
        message: From `parse`.
        keys: The keys of `message.sender` in DNS; keys for another algorithm than the message's are skipped.

    Raises:
        Refusal: No key verifies the signature.
    """
    _verify_signature(message, keys)
    return message.unverified_text


def signing_key_of(message: UnverifiedMessage, keys: Iterable[PublicKey]) -> PublicKey | None:
    """Return the key that verifies a message's signature, or None if none does.

    Args:
        message: From `parse`.
        keys: The keys of `message.sender` in DNS; keys for another algorithm than the message's are skipped.
    """
    return next((key for key in keys if _is_signed_by(message, key)), None)


def verify_receipt(receipt: UnverifiedReceipt, keys: Iterable[PublicKey]) -> str:
    """Return the identifier of the message that a receipt is for, if one of its sender's keys has signed it.

    Args:
        receipt: From `parse_receipt`.
        keys: The keys of `receipt.sender` in DNS.

    Raises:
        Refusal: No key verifies the signature.
    """
    _verify_signature(receipt, keys)
    return receipt.reference


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a JWS, whose signature is not verified yet."""

    header: dict[str, Any]
    algorithm: str
    payload: str
    signature: str
    signing_input: bytes


def _sign(payload: str, parameters: dict[str, Any], sender: IdentityName, signing_key: PrivateKey) -> str:
    algorithm = signing_key.algorithms.signature
    header = {"alg": algorithm, "x5u": sender.uri, **parameters}
    protected = base64url.encode(strict_json.write_object(header).encode())
    signature = signatures.sign(signing_key, f"{protected}.{payload}".encode())
    return serialization.write(JWS, (protected, payload, base64url.encode(signature)))


def _read(signed: str) -> _Parts:
    protected, payload, signature = serialization.read(JWS, signed)
    header = serialization.read_header(JWS, protected)
    return _Parts(header, _read_algorithm(header), payload, signature, f"{protected}.{payload}".encode())


def _verify_signature(message: UnverifiedMessage | UnverifiedReceipt, keys: Iterable[PublicKey]) -> None:
    if not any(_is_signed_by(message, key) for key in keys):
        raise Refusal(
            Reason.SIGNATURE_INVALID, f"no key of {message.sender} verifies the {message.algorithm} signature"
        )


def _is_signed_by(message: UnverifiedMessage | UnverifiedReceipt, key: PublicKey) -> bool:
    return key.algorithms.signature == message.algorithm and signatures.is_valid(
        key, message.signature, message.signing_input
    )


def _read_algorithm(header: dict[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise JWS.refuse_malformed("alg is missing or not a string")
    if algorithm not in signatures.LENGTHS:
        raise JWS.refuse_unsupported(f"alg {shown(algorithm)}")
    return algorithm


def _media_type(header: dict[str, Any]) -> str:
    """Return `typ` in lower case and without `application/`, to be compared (RFC 7515, section 4.1.9)."""
    media_type = header.get("typ", _MESSAGE_TYPE)
    if not isinstance(media_type, str):
        raise JWS.refuse_malformed("typ is not a string")
    return media_type.lower().removeprefix("application/")


def _read_sender(header: dict[str, Any]) -> IdentityName:
    uri = header.get("x5u")
    if not isinstance(uri, str):
        raise Refusal(Reason.SENDER_MALFORMED, "x5u is missing or not a string")
    try:
        return parse_dns_uri(uri)
    except MalformedNameError:
        raise Refusal(Reason.SENDER_MALFORMED, f"x5u {shown(uri)} is not a DNS URI of TLSA records") from None


def _read_text(payload: str) -> str:
    octets = serialization.read_octets(JWS, "payload", payload)
    if not octets:
        raise JWS.refuse_malformed("the text is empty")
    return serialization.read_utf8(JWS, "the text", octets)


def _read_signature(part: _Parts) -> bytes:
    octets = serialization.read_octets(JWS, "signature", part.signature)
    if len(octets) not in signatures.LENGTHS[part.algorithm]:
        raise Refusal(Reason.SIGNATURE_INVALID, f"a signature of {len(octets)} bytes does not fit {part.algorithm}")
    return octets
