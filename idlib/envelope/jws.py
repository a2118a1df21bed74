"""The inner layer: a text signed by its sender, or a receipt for one signed by its recipient (RFC 7515)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from jwcrypto.jwa import JWA

from idlib.algorithms import P256_ALGORITHMS, RSA_ALGORITHMS, PrivateKey, PublicKey
from idlib.envelope import base64url, serialization, strict_json
from idlib.envelope.binding import Binding, is_identifier, read_binding
from idlib.envelope.serialization import JWS, shown
from idlib.errors import MalformedNameError, MessageError, Reason, Refusal
from idlib.names import IdentityName, parse_dns_uri

# jwcrypto's JWS class re-reads what is already judged here, and admits more than the profile does; these are the
# algorithms under it, and all that can be reached.
_SIGNATURES: Final = {
    algorithms.signature: JWA.signing_alg(algorithms.signature) for algorithms in (RSA_ALGORITHMS, P256_ALGORITHMS)
}
_SIGNATURE_OCTETS: Final = {RSA_ALGORITHMS.signature: range(256, 512 + 1), P256_ALGORITHMS.signature: range(64, 64 + 1)}
_MESSAGE_TYPE: Final = "jose"
_MESSAGE_TYPES: Final = frozenset({_MESSAGE_TYPE, "jose+json"})
_RECEIPT_TYPE: Final = "receipt+jws"


@dataclass(frozen=True, slots=True)
class UnverifiedMessage:
    """A well-formed JWS of which nothing is known yet: anybody can have written it, under any name.

    Args:
        sender: Who the message says has signed it.
        algorithm: The JWS `alg`.
        binding: To whom and when it says to have been written; None where it is unbound.
        signing_input: What the signature is over (RFC 7515, section 5.1).
        signature: As `alg` has it.
        unverified_text: What it says; to be taken from `verify` alone.
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
    """A well-formed receipt of which nothing is known yet: anybody can have written it, under any name.

    Args:
        sender: Who the receipt says has signed it, and so has printed the message.
        algorithm: The JWS `alg`.
        binding: To whom and when it says to have been written.
        reference: The identifier (`jti`) of the message.
        signing_input: What the signature is over (RFC 7515, section 5.1).
        signature: As `alg` has it.
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
        sender: Under whose name the public key stands in DNS.
        signing_key: The sender's; its type decides the algorithm.
        binding: To whom and when.
        ask_for_receipt: Whether the recipient is to confirm that it has printed the message.

    Raises:
        MessageError: The text is empty, or has half a surrogate pair, which UTF-8 cannot write.
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
        sender: Who has printed it.
        signing_key: Its own; the key's type decides the algorithm.
        binding: To whom, who wrote that message, and when.
    """
    parameters = {"typ": _RECEIPT_TYPE, **binding.parameters(), "ref": reference}
    return _sign("", parameters, sender, signing_key)


def parse(signed: str) -> UnverifiedMessage:
    """Return what a signed message says, judged in everything but its signature.

    Args:
        signed: Flattened JSON or compact serialization; the caller has bounded its length.

    Raises:
        Refusal: The message is malformed or off the profile.
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
    """Return what a receipt says, judged in everything but its signature.

    Args:
        signed: Flattened JSON or compact serialization; the caller has bounded its length.

    Raises:
        Refusal: The text is no receipt, malformed or off the profile.
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
        keys: Those that DNS gives for `message.sender`; keys for another algorithm than the message's are passed over.

    Raises:
        Refusal: No key verifies the signature.
    """
    _verify_signature(message, keys)
    return message.unverified_text


def signing_key_of(message: UnverifiedMessage, keys: Iterable[PublicKey]) -> PublicKey | None:
    """Return the key that verifies a message's signature, or None if none does.

    Args:
        message: From `parse`.
        keys: Those that DNS gives for `message.sender`; keys for another algorithm than the message's are passed over.
    """
    return next((key for key in keys if _is_signed_by(message, key)), None)


def verify_receipt(receipt: UnverifiedReceipt, keys: Iterable[PublicKey]) -> str:
    """Return the identifier of the message that a receipt is for, which one of its sender's keys has signed.

    Args:
        receipt: From `parse_receipt`.
        keys: Those that DNS gives for `receipt.sender`.

    Raises:
        Refusal: No key verifies the signature.
    """
    _verify_signature(receipt, keys)
    return receipt.reference


@dataclass(frozen=True, slots=True)
class _Parts:
    """A JWS taken apart; its signature is judged last."""

    header: dict[str, Any]
    algorithm: str
    payload: str
    signature: str
    signing_input: bytes


def _sign(payload: str, parameters: dict[str, Any], sender: IdentityName, signing_key: PrivateKey) -> str:
    algorithm = signing_key.algorithms.signature
    header = {"alg": algorithm, "x5u": sender.uri, **parameters}
    protected = base64url.encode(strict_json.write_object(header).encode())
    signature = _SIGNATURES[algorithm].sign(signing_key.jwk, f"{protected}.{payload}".encode())
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
    if key.algorithms.signature != message.algorithm:
        return False
    if isinstance(key.native, rsa.RSAPublicKey) and len(message.signature) != (key.native.key_size + 7) // 8:
        return False
    try:
        _SIGNATURES[message.algorithm].verify(key.jwk, message.signing_input, message.signature)
    except InvalidSignature:
        return False
    return True


def _read_algorithm(header: dict[str, Any]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise JWS.refuse_malformed("alg is missing or not a string")
    if algorithm not in _SIGNATURES:
        raise JWS.refuse_unsupported(f"alg {shown(algorithm)}")
    return algorithm


def _media_type(header: dict[str, Any]) -> str:
    """Return `typ`, which is compared without case and its `application/` (RFC 7515, section 4.1.9)."""
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
    if len(octets) not in _SIGNATURE_OCTETS[part.algorithm]:
        raise Refusal(Reason.SIGNATURE_INVALID, f"a signature of {len(octets)} bytes does not fit {part.algorithm}")
    return octets
