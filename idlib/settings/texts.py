"""Reads numbers, texts, durations and paths."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from idlib.settings.variable import SecretValueError, UnfitValueError

# Together with the longest name far less than the 65535 bytes of a topic.
_MAX_PREFIX_BYTES: Final = 1024
_WILDCARDS: Final = frozenset("+#")
_MAX_PROTOCOLS: Final = 8
_SECONDS_OF_UNIT: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def integer_in(allowed: range) -> Callable[[str], int]:
    """Return a function that reads a number in decimal, and raises ValueError for anything else.

    Args:
        allowed: The numbers that it may be.
    """

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) not in allowed:
            raise ValueError(text)
        return int(text)

    return read


def auto_or(read: Callable[[str], int]) -> Callable[[str], int | None]:
    """Return a function that returns None for `auto`, and reads a number from anything else.

    Args:
        read: Reads the number.
    """

    def read_either(text: str) -> int | None:
        return None if text == "auto" else read(text)

    return read_either


def read_topic_words(text: str) -> str:
    """Return words that topics start with.

    Args:
        text: 1 to 8 words, separated by /.

    Raises:
        ValueError: It is not.
    """
    if text != "/" and text.strip("/") != text:
        raise UnfitValueError("has a / at its beginning or end, which is added where it is needed")
    return matching(r"[A-Za-z0-9_.-]{1,64}(/[A-Za-z0-9_.-]{1,64}){0,7}")(text)


def matching(pattern: str) -> Callable[[str], str]:
    """Return a function that returns a text unchanged, and raises ValueError unless it matches.

    Args:
        pattern: A regular expression for the whole text.
    """

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return read


def read_username(text: str) -> str:
    """Return a user name that MQTT can transmit (MQTT 5, section 1.5.4).

    Args:
        text: The value of a variable.

    Raises:
        ValueError: It is too long, or has a character that UTF-8 or MQTT does not allow.
    """
    if not re.fullmatch(r"[^\0\ud800-\udfff]{1,1024}", text):
        raise ValueError(text)
    return text


def read_topic_filter(text: str) -> str:
    """Return a topic filter without wildcards (MQTT 5, section 4.7).

    Args:
        text: The value of a variable.

    Raises:
        ValueError: It is too long, or has a wildcard, white space or a character that UTF-8 or MQTT does not allow.
    """
    if not re.fullmatch(r"[^\0\s+#\ud800-\udfff]{1,1024}", text) or not text.isprintable():
        raise ValueError(text)
    return text


def read_client_id(text: str) -> str:
    """Return a client id that MQTT can transmit, and that a log line can show.

    Args:
        text: The value of a variable.

    Raises:
        SecretValueError: It is too long, or has white space or a character that is not in ASCII.
    """
    if not re.fullmatch(r"[!-~]{1,128}", text):
        raise SecretValueError("has more than 128 characters, or white space or another character that is not visible")
    return text


def read_protocol_names(text: str) -> tuple[str, ...]:
    """Return the names of protocols to offer with ALPN, the preferred one first (RFC 7301, section 3.1).

    Args:
        text: The names, separated by commas.

    Raises:
        ValueError: A name is empty, too long, or has white space or a character that is not in ASCII.
    """
    names = tuple(text.split(","))
    if len(names) > _MAX_PROTOCOLS or not all(re.fullmatch(r"[!-~]{1,255}", name) for name in names):
        raise ValueError(text)
    return names


def read_topic_prefix(text: str) -> str:
    """Return what stands before a device's name in a topic (MQTT 5, sections 1.5.4 and 4.7).

    Args:
        text: The value of a variable.

    Raises:
        ValueError: It cannot be the beginning of a topic to which messages are published.
    """
    if any(character in _WILDCARDS for character in text):
        raise UnfitValueError("contains a wildcard, + or #")
    if text.startswith("$"):
        raise UnfitValueError("starts with $, which is for the broker's own topics")
    if not text.isprintable():
        raise UnfitValueError("contains a control character, or another one that cannot be shown")
    if not 1 <= len(text.encode()) <= _MAX_PREFIX_BYTES:
        raise UnfitValueError(f"has {len(text.encode())} bytes, and a prefix at most {_MAX_PREFIX_BYTES}")
    return text


def read_path(text: str) -> Path:
    """Return an absolute path. A relative one is rejected, because its meaning depends on the working directory.

    Args:
        text: The path, which may start with ~ for the home directory.

    Raises:
        ValueError: It is relative, or cannot be a path.
    """
    if "\0" in text:
        raise ValueError(text)
    if text != text.strip():
        raise UnfitValueError("starts or ends with white space")
    try:
        path = Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)
    except RuntimeError as error:
        raise UnfitValueError("starts with ~, and no home directory is known") from error
    if not path.is_absolute():
        raise UnfitValueError("is a relative path")
    return path


def read_duration(text: str) -> int:
    """Return seconds.

    Args:
        text: A number and a unit, as in `90d`, `12h`, `30m` or `45s`.

    Raises:
        ValueError: It is not, or is zero.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not match or not int(match[1]):
        raise ValueError(text)
    return int(match[1]) * _SECONDS_OF_UNIT[match[2]]
