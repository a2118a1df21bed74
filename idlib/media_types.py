"""Media types, which name the format of a message's content (RFC 6838, section 4.2), and their form in a JWS header."""

import re
from typing import Final

from idlib.errors import MalformedMediaTypeError

MAX_CHARACTERS: Final = 255

_PREFIX: Final = "application/"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
# A token, or a quoted string without escapes (RFC 2045, section 5.1).
_VALUE: Final = r"""(?:[A-Za-z0-9!#$%&'*+.^_`|{}~-]+|"[ !#-\[\]-~]*")"""
_PARAMETER: Final = re.compile(f" *; *({_NAME})=({_VALUE})")
_MEDIA_TYPE: Final = re.compile(f"({_NAME}/{_NAME})((?:{_PARAMETER.pattern})*)")


def media_type(text: str) -> str:
    """Return a media type in the form in which it can be compared, such as `text/csv; charset=utf-8`.

    The type, the subtype and the names of parameters are in lower case, because their case does not matter; the values
    of parameters are not changed.

    Args:
        text: The media type, with parameters or without.

    Raises:
        MalformedMediaTypeError: It is not a media type, is longer than 255 characters, or has a parameter twice.
    """
    match = _MEDIA_TYPE.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        raise MalformedMediaTypeError(
            f"{text[:MAX_CHARACTERS]!a} is not a media type", "write it as in text/csv or image/png"
        )
    parameters = [(found[1].lower(), found[2]) for found in _PARAMETER.finditer(match[2])]
    if len({name for name, _ in parameters}) < len(parameters):
        raise MalformedMediaTypeError(f"{text!a} has a parameter twice", "give each parameter once")
    formatted = "; ".join([match[1].lower(), *(f"{name}={value}" for name, value in parameters)])
    if len(formatted) > MAX_CHARACTERS:
        raise MalformedMediaTypeError(f"{text!a} is too long", f"give at most {MAX_CHARACTERS} characters")
    return formatted


def to_header(formatted: str) -> str:
    """Return the value of `cty` for a media type (RFC 7515, section 4.1.10).

    Args:
        formatted: From `media_type`.
    """
    rest = formatted.removeprefix(_PREFIX)
    return formatted if "/" in rest else rest


def from_header(value: str) -> str:
    """Return the media type for a value of `cty` (RFC 7515, section 4.1.10).

    Args:
        value: The value; without a slash, it is the subtype of an `application` type.

    Raises:
        MalformedMediaTypeError: It is not a media type.
    """
    return media_type(value if "/" in value else _PREFIX + value)
