"""The two serializations of a JOSE layer, flattened JSON and compact, and its protected header."""

import re
from dataclasses import dataclass
from typing import Any, Final

from idlib import base64url
from idlib.envelope import strict_json
from idlib.errors import Reason, Refusal

_MAX_SHOWN: Final = 60
_BEGINS_AN_OBJECT: Final = re.compile(r"[ \t\n\r]*\{")
_REFUSED_PARAMETERS: Final = frozenset({"crit", "zip", "aad", "b64"})
_REFUSED_MEMBERS: Final = _REFUSED_PARAMETERS | {"header", "unprotected", "recipients", "signatures"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the two layers of a message, with the reasons for refusing it.

    Args:
        members: The parts, in the order of the compact serialization.
        alien: Members of the other layer; different programs could read an object that has one as either layer.
        malformed: The reason if it breaks RFC 7515, RFC 7516 or strict JSON.
        unsupported: The reason if they allow it and the profile does not.
        mistaken: The fact if the other layer is in the place of this one.
    """

    members: tuple[str, ...]
    alien: frozenset[str]
    malformed: Reason
    unsupported: Reason
    mistaken: str

    def refuse_malformed(self, fact: str) -> Refusal:
        """Return the refusal of a malformed layer."""
        return Refusal(self.malformed, fact)

    def refuse_unsupported(self, fact: str) -> Refusal:
        """Return the refusal of a layer outside the profile."""
        return Refusal(self.unsupported, fact)


JWE: Final = Layer(
    ("protected", "encrypted_key", "iv", "ciphertext", "tag"),
    frozenset({"payload", "signature"}),
    Reason.OUTER_MALFORMED,
    Reason.OUTER_UNSUPPORTED,
    "the message is a JWS that is not encrypted",
)
JWS: Final = Layer(
    ("protected", "payload", "signature"),
    frozenset({"encrypted_key", "iv", "ciphertext", "tag"}),
    Reason.INNER_MALFORMED,
    Reason.INNER_UNSUPPORTED,
    "the plaintext is a JWE, not a JWS",
)


def write(layer: Layer, parts: tuple[str, ...]) -> str:
    """Return the flattened JSON serialization (RFC 7515, section 7.2.2; RFC 7516, section 7.2.2).

    Args:
        layer: The layer.
        parts: The parts in base64url, in the order of the layer's members.
    """
    return strict_json.write_object(dict(zip(layer.members, parts, strict=True)))


def read(layer: Layer, text: str) -> tuple[str, ...]:
    """Return the parts of either serialization, in base64url, in the order of the layer's members.

    Args:
        layer: The layer that it has to be.
        text: The received text; the caller has limited its length.

    Raises:
        Refusal: The text is neither serialization, or is outside the profile.
    """
    if _BEGINS_AN_OBJECT.match(text):
        return _read_flattened(layer, text)
    return _read_compact(layer, text)


def read_header(layer: Layer, protected: str) -> dict[str, Any]:
    """Return the parameters of the protected header.

    Args:
        layer: The header's layer.
        protected: The header in base64url.

    Raises:
        Refusal: The header is not strict base64url of a strict JSON object in UTF-8, or has a refused parameter.
    """
    try:
        header = strict_json.read_object(base64url.decode(protected).decode())
    except ValueError as error:
        raise layer.refuse_malformed(f"protected header: {_fact_of(error)}") from None
    if refused := _REFUSED_PARAMETERS & header.keys():
        raise layer.refuse_unsupported(f"the protected header has {min(refused)}")
    return header


def read_octets(layer: Layer, member: str, text: str) -> bytes:
    """Return the bytes of a part.

    Args:
        layer: The part's layer.
        member: The part's name.
        text: The part in base64url.

    Raises:
        Refusal: The part is not strict base64url.
    """
    try:
        return base64url.decode(text)
    except ValueError:
        raise layer.refuse_malformed(f"{member} is not base64url without padding") from None


def read_utf8(layer: Layer, what: str, octets: bytes) -> str:
    """Decode UTF-8.

    Args:
        layer: The layer that the bytes are from.
        what: What a refusal calls them.
        octets: Any bytes.

    Raises:
        Refusal: The bytes are not UTF-8.
    """
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise layer.refuse_malformed(f"{what} is not UTF-8") from None


def shown(value: object) -> str:
    """Return an untrusted value in a form that is safe in a log line: in ASCII, escaped, and short."""
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def _read_flattened(layer: Layer, text: str) -> tuple[str, ...]:
    return _read_plain(layer, text) or _read_object(layer, text)


def _read_plain(layer: Layer, text: str) -> tuple[str, ...] | None:
    """Return the parts of an object with no other members, escapes or white space, as `write` writes it, or else None.

    Splitting takes a tenth of the time of the JSON parser. What JSON does not allow in a string, such as a line break,
    is not in the alphabet of base64url either, and so the part is refused when it is decoded.
    """
    if "\\" in text:
        return None
    number = len(layer.members)
    pieces = text.split('"', 4 * number)
    if pieces[::2] != ["{", *(":", ",") * (number - 1), ":", "}"]:
        return None
    members = dict(zip(pieces[1::4], pieces[3::4], strict=True))
    if members.keys() != set(layer.members):
        return None
    return tuple(members[name] for name in layer.members)


def _read_object(layer: Layer, text: str) -> tuple[str, ...]:
    try:
        members = strict_json.read_object(text)
    except ValueError as error:
        raise layer.refuse_malformed(_fact_of(error)) from None
    if layer.alien & members.keys():
        mistaken = not set(layer.members) - {"protected"} & members.keys()
        raise layer.refuse_malformed(layer.mistaken if mistaken else "the message is a JWS and a JWE at once")
    if refused := _REFUSED_MEMBERS & members.keys():
        raise layer.refuse_unsupported(f"the message has a member {min(refused)}")
    for name in layer.members:
        if not isinstance(members.get(name), str):
            raise layer.refuse_malformed(f"the member {name} is missing or not a string")
    return tuple(members[name] for name in layer.members)


def _read_compact(layer: Layer, text: str) -> tuple[str, ...]:
    parts = tuple(text.split(".", len(JWE.members)))
    if len(parts) == len(layer.members):
        return parts
    if len(parts) in (len(JWE.members), len(JWS.members)):
        raise layer.refuse_malformed(layer.mistaken)
    raise layer.refuse_malformed("the message is neither flattened JSON nor compact serialization")


def _fact_of(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "text that is not UTF-8"
    return shown(str(error)).strip("'\"")
