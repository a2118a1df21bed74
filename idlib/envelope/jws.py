"""The inner layer: signed content, usually a text, or a receipt for a message signed by its recipient (RFC 7515)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from idlib import base64url, media_types, signatures
from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import serialization, strict_json
from idlib.envelope.binding import Binding, is_identifier, read_binding
from idlib.envelope.serialization import JWS, shown
from idlib.errors import MalformedMediaTypeError, MalformedNameError, MessageError, Reason, Refusal
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
        unverified_content: The content, exactly as it was signed; only `verify` may return it.
        asks_for_receipt: Whether the sender asks for a receipt.
        content_type: The media type of the content; None for a text, which is UTF-8.
    """

    sender: IdentityName
    algorithm: str
    binding: Binding | None
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    unverified_content: bytes = field(repr=False)
    asks_for_receipt: bool = False
    content_type: str | None = None


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
    content: str | bytes,
    *,
    sender: IdentityName,
    signing_key: PrivateKey,
    binding: Binding,
    ask_for_receipt: bool = False,
    content_type: str | None = None,
) -> str:
    """Return a text or other content as a signed message in flattened JSON serialization.

    Args:
        content: At least one character or byte.
        sender: The sender, whose public key is in DNS.
        signing_key: The sender's key; its type determines the algorithm.
        binding: The recipient and the time.
        ask_for_receipt: Whether the recipient should confirm that it has printed the message.
        content_type: The media type of the content; None for a text.

    Raises:
        MessageError: The content is empty; or it has no type and is not UTF-8, or has half a surrogate pair, which
            UTF-8 cannot encode.
        MalformedMediaTypeError: The content type is not a media type.
    """
    if not content:
        raise MessageError("the message is empty", "give at least one character")
    octets = content if isinstance(content, bytes) else _encoded(content)
    if content_type is None and isinstance(content, bytes):
        _check_text(content)
    parameters: dict[str, Any] = {**binding.parameters(), **({"rcpt": True} if ask_for_receipt else {})}
    if content_type is not None:
        parameters["cty"] = media_types.to_header(media_types.media_type(content_type))
    return _sign(base64url.encode(octets), parameters, sender, signing_key)


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
    content_type = _read_content_type(part.header)
    content = _read_content(part.payload, content_type)
    signature = _read_signature(part)
    asks_for_receipt = asks_for_receipt and binding is not None
    return UnverifiedMessage(
        sender, part.algorithm, binding, part.signing_input, signature, content, asks_for_receipt, content_type
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


def verify(message: UnverifiedMessage, keys: Iterable[PublicKey]) -> bytes:
    """Return the content of a message that one of the sender's keys has signed: UTF-8 if it has no content type.

    Args:
        message: From `parse`.
        keys: The keys of `message.sender` in DNS; keys for another algorithm than the message's are skipped.

    Raises:
        Refusal: No key verifies the signature.
    """
    _verify_signature(message, keys)
    return message.unverified_content


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


def _check_text(octets: bytes) -> None:
    try:
        octets.decode()
    except UnicodeDecodeError:
        raise MessageError("the message is not UTF-8", "convert it to UTF-8, or give its content type") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MessageError("the message cannot be encoded as UTF-8", "leave out lone surrogates") from None


def _read_content_type(header: dict[str, Any]) -> str | None:
    """Return the media type in `cty` (RFC 7515, section 4.1.10)."""
    if "cty" not in header:
        return None
    value = header["cty"]
    if not isinstance(value, str):
        raise JWS.refuse_malformed("cty is not a string")
    try:
        return media_types.from_header(value)
    except MalformedMediaTypeError:
        raise JWS.refuse_malformed(f"cty {shown(value)} is not a media type") from None


def _read_content(payload: str, content_type: str | None) -> bytes:
    octets = serialization.read_octets(JWS, "payload", payload)
    if not octets:
        raise JWS.refuse_malformed("the text is empty")
    if content_type is None:
        serialization.read_utf8(JWS, "the text", octets)
    return octets


def _read_signature(part: _Parts) -> bytes:
    octets = serialization.read_octets(JWS, "signature", part.signature)
    if len(octets) not in signatures.LENGTHS[part.algorithm]:
        raise Refusal(Reason.SIGNATURE_INVALID, f"a signature of {len(octets)} bytes does not fit {part.algorithm}")
    return octets
