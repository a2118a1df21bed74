"""What binds a message to its recipient and its time: `aud`, `iat`, `jti` and `exp` in the JWS protected header."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from idlib.envelope.identifier import new_identifier
from idlib.envelope.serialization import shown
from idlib.errors import MalformedNameError, MessageError, Reason, Refusal
from idlib.names import IdentityName, name_of

_REQUIRED: Final = frozenset({"aud", "iat", "jti"})
_ALL: Final = _REQUIRED | {"exp"}
_MAX_INTEGER: Final = 2**53 - 1
_MAX_IDENTIFIER_OCTETS: Final = 128


@dataclass(frozen=True, slots=True)
class Binding:
    """A message's recipient, time and identifier.

    Args:
        audience: The recipient (`aud`).
        issued_at: When it was created (`iat`): seconds since the epoch, 0 to 2^53-1.
        identifier: Unique among the sender's messages (`jti`): 1 to 128 bytes of UTF-8.
        expires_at: When it expires (`exp`): later than issued_at; None if it does not.

    Raises:
        MessageError: A value is outside its range.
    """

    audience: IdentityName
    issued_at: int
    identifier: str
    expires_at: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.issued_at <= _MAX_INTEGER:
            raise MessageError("a message's time is outside 0 to 2^53-1", "set the clock")
        if self.expires_at is not None and not self.issued_at < self.expires_at <= _MAX_INTEGER:
            raise MessageError("a message's expiry is not after its time, or beyond 2^53-1", "set a lifetime above 0")
        if not is_identifier(self.identifier):
            raise MessageError("a message's identifier is empty or too long", "use 1 to 128 bytes")

    @classmethod
    def new(cls, audience: IdentityName, issued_at: int, lifetime: int | None = None) -> Self:
        """Return a binding with a fresh random identifier of 128 bits.

        Args:
            audience: The recipient.
            issued_at: Now, in seconds since the epoch.
            lifetime: The number of seconds after which the message expires; None for never.

        Raises:
            MessageError: A value is outside its range.
        """
        return cls(audience, issued_at, new_identifier(), None if lifetime is None else issued_at + lifetime)

    def parameters(self) -> dict[str, str | int]:
        """Return the binding as header parameters."""
        parameters: dict[str, str | int] = {
            "aud": self.audience.text,
            "iat": self.issued_at,
            "jti": self.identifier,
        }
        if self.expires_at is not None:
            parameters["exp"] = self.expires_at
        return parameters


def is_identifier(text: str) -> bool:
    """Return whether a text is valid as a message's identifier: 1 to 128 bytes of UTF-8."""
    return 1 <= len(text.encode(errors="surrogatepass")) <= _MAX_IDENTIFIER_OCTETS


def read_binding(header: Mapping[str, Any]) -> Binding | None:
    """Return the binding in a JWS protected header, or None if the message is unbound.

    Args:
        header: The header, read by `strict_json`.

    Raises:
        Refusal: Some of the parameters are missing, have the wrong type, or are outside their range.
    """
    present = _ALL & header.keys()
    if not present:
        return None
    if missing := _REQUIRED - present:
        raise _malformed(f"{min(present)} without {min(missing)}")
    for name in sorted(present):
        if type(header[name]) is not (int if name in ("iat", "exp") else str):
            raise _malformed(f"{name} has the wrong JSON type")
    try:
        return Binding(name_of(header["aud"]), header["iat"], header["jti"], header.get("exp"))
    except MalformedNameError:
        raise _malformed(f"aud {shown(header['aud'])} is not a device name") from None
    except MessageError as error:
        raise _malformed(error.fact) from None


def _malformed(fact: str) -> Refusal:
    return Refusal(Reason.BINDING_MALFORMED, f"binding: {fact}")
