"""Reads the parts of a URL: a user but never a password, a host and a port (RFC 3986, section 3.2)."""

import ipaddress
import re
import urllib.parse
from typing import Final

from idlib.settings.addresses import read_host
from idlib.settings.texts import integer_in, read_username
from idlib.settings.variable import SecretValueError

# The unreserved characters and the sub-delimiters (RFC 3986, section 2).
PLAIN: Final = r"A-Za-z0-9._~!$&'()*+,;=\-"
ENCODED: Final = "%[0-9A-Fa-f]{2}"
_USER: Final = rf"(?:[{PLAIN}]|{ENCODED})+"
# An IPv6 address has a zone after %25 (RFC 6874).
_BRACKETED: Final = rf"\[([0-9A-Fa-f:.]+)(?:%25([{PLAIN}]+))?\](?::(.*))?"
# What files of settings and copied texts leave around a value. A path may end with an apostrophe.
_STRAY_AT_BEGINNING: Final = re.compile(r"[\s'\"\u2018-\u201f]")
_STRAY_AT_END: Final = re.compile(r"[\s\"\u2018-\u201f]")
_PORT_FAULT: Final = "has a port that is not a number from 1 to 65535"


def check_ends(text: str) -> None:
    """Check that nothing stands around a URL that is easily overlooked.

    Args:
        text: The value of a variable.

    Raises:
        SecretValueError: It begins or ends with a space, a line break or a quotation mark.
    """
    ends = (("begins", text[:1], _STRAY_AT_BEGINNING), ("ends", text[-1:], _STRAY_AT_END))
    for end, character, stray in ends:
        if stray.fullmatch(character):
            what = "white space" if character.isspace() else "a quotation mark"
            raise SecretValueError(f"{end} with {what}, which is not part of a URL")


def read_user(text: str) -> str:
    """Return the user name in the user information of a URL.

    Args:
        text: What is before the @, percent-encoded.

    Raises:
        SecretValueError: It contains a password, or is not a user name.
    """
    if ":" in text:
        raise SecretValueError("contains a password, which belongs in a file")
    if not re.fullmatch(_USER, text):
        raise SecretValueError(
            "has a user name that is empty or not percent-encoded (in a URL, @ in a name is %40, and / is %2F)"
        )
    try:
        return read_username(urllib.parse.unquote(text, errors="strict"))
    except ValueError as error:
        raise SecretValueError("has a user name that MQTT cannot transmit") from error


def read_place(text: str, default_port: int | None) -> tuple[str, int]:
    """Return the host and the port in a URL.

    Args:
        text: Host and port; an IPv6 address in brackets.
        default_port: The port if the URL has none; None if it must have one.

    Raises:
        SecretValueError: They are malformed.
    """
    bracketed = re.fullmatch(_BRACKETED, text, re.DOTALL)
    if bracketed is not None:
        zone = "" if bracketed[2] is None else f"%{bracketed[2]}"
        host, port = f"{bracketed[1]}{zone}", bracketed[3]
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
        if ":" in (port or ""):
            raise SecretValueError("has an IPv6 address without brackets, or more than one port")
    try:
        host = str(ipaddress.IPv6Address(host)) if bracketed is not None else read_host(host)
    except ValueError as error:
        raise SecretValueError("has no host, or one that is neither a name nor an IP address") from error
    if port is None:
        if default_port is None:
            raise SecretValueError("has no port")
        return host, default_port
    try:
        return host, integer_in(range(1, 65536))(port)
    except ValueError as error:
        raise SecretValueError(_PORT_FAULT) from error
