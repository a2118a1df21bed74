"""The inner layer: a text signed by its sender (RFC 7515)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from jwcrypto.jwa import JWA

from idlib.algorithms import P256_ALGORITHMS, RSA_ALGORITHMS, PrivateKey, PublicKey
from idlib.envelope import base64url, serialization, strict_json
from idlib.envelope.binding import Binding, read_binding
from idlib.envelope.serialization import JWS, shown
from idlib.errors import MalformedNameError, MessageError, Reason, Refusal
from idlib.names import IdentityName, parse_dns_uri

# jwcrypto's JWS class re-reads what is already judged here, and admits more than the profile does; these are the
# algorithms under it, and all that can be reached.
_SIGNATURES: Final = {
    algorithms.signature: JWA.signing_alg(algorithms.signature) for algorithms in (RSA_ALGORITHMS, P256_ALGORITHMS)
}
_SIGNATURE_OCTETS: Final = {RSA_ALGORITHMS.signature: range(256, 512 + 1), P256_ALGORITHMS.signature: range(64, 64 + 1)}
_MESSAGE_TYPES: Final = frozenset({"jose", "jose+json"})


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


def sign(text: str, *, sender: IdentityName, signing_key: PrivateKey, binding: Binding) -> str:
    """Return the text as a signed message in flattened JSON serialization.

    Args:
        text: At least one character.
        sender: Under whose name the public key stands in DNS.
        signing_key: The sender's; its type decides the algorithm.
        binding: To whom and when.

    Raises:
        MessageError: The text is empty, or has half a surrogate pair, which UTF-8 cannot write.
    """
    if not text:
        raise MessageError("the message is empty", "give at least one character")
    try:
        payload = base64url.encode(text.encode())
    except UnicodeEncodeError:
        raise MessageError("the message cannot be written in UTF-8", "leave out lone surrogates") from None
    algorithm = signing_key.algorithms.signature
    header = {"alg": algorithm, "x5u": sender.uri, **binding.parameters()}
    protected = base64url.encode(strict_json.write_object(header).encode())
    signature = _SIGNATURES[algorithm].sign(signing_key.jwk, f"{protected}.{payload}".encode())
    return serialization.write(JWS, (protected, payload, base64url.encode(signature)))


def parse(signed: str) -> UnverifiedMessage:
    """Return what a signed message says, judged in everything but its signature.

    Args:
        signed: Flattened JSON or compact serialization; the caller has bounded its length.

    Raises:
        Refusal: The message is malformed or off the profile.
    """
    protected, payload, signature = serialization.read(JWS, signed)
    header = serialization.read_header(JWS, protected)
    algorithm = _read_algorithm(header)
    _check_type(header)
    sender = _read_sender(header)
    binding = read_binding(header)
    text = _read_text(payload)
    signature_octets = serialization.read_octets(JWS, "signature", signature)
    if len(signature_octets) not in _SIGNATURE_OCTETS[algorithm]:
        raise Refusal(Reason.SIGNATURE_INVALID, f"{algorithm} makes no signature of {len(signature_octets)} octets")
    return UnverifiedMessage(sender, algorithm, binding, f"{protected}.{payload}".encode(), signature_octets, text)


def verify(message: UnverifiedMessage, keys: Iterable[PublicKey]) -> str:
    """Return the text of a message that one of the sender's keys has signed.

    Args:
        message: From `parse`.
        keys: Those that DNS gives for `message.sender`; keys for another algorithm than the message's are passed over.

    Raises:
        Refusal: No key verifies the signature.
    """
    if any(_is_signed_by(message, key) for key in keys):
        return message.unverified_text
    raise Refusal(Reason.SIGNATURE_INVALID, f"no key of {message.sender} verifies the {message.algorithm} signature")


def _is_signed_by(message: UnverifiedMessage, key: PublicKey) -> bool:
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
        raise JWS.refuse_malformed("alg is missing or no string")
    if algorithm not in _SIGNATURES:
        raise JWS.refuse_unsupported(f"alg {shown(algorithm)}")
    return algorithm


def _check_type(header: dict[str, Any]) -> None:
    """Admit messages alone; a media type is compared without case and its `application/` (RFC 7515, section 4.1.9)."""
    if "typ" not in header:
        return
    media_type = header["typ"]
    if not isinstance(media_type, str):
        raise JWS.refuse_malformed("typ is no string")
    if media_type.lower().removeprefix("application/") not in _MESSAGE_TYPES:
        raise JWS.refuse_unsupported(f"typ {shown(media_type)}")


def _read_sender(header: dict[str, Any]) -> IdentityName:
    uri = header.get("x5u")
    if not isinstance(uri, str):
        raise Refusal(Reason.SENDER_MALFORMED, "x5u is missing or no string")
    try:
        return parse_dns_uri(uri)
    except MalformedNameError:
        raise Refusal(Reason.SENDER_MALFORMED, f"x5u {shown(uri)} is no DNS URI of TLSA records") from None


def _read_text(payload: str) -> str:
    octets = serialization.read_octets(JWS, "payload", payload)
    if not octets:
        raise JWS.refuse_malformed("the text is empty")
    return serialization.read_utf8(JWS, "the text", octets)
