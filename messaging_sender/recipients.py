"""The recipients of a message that goes to several: from the command line, and from a file with a name on each line."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from idlib.errors import MalformedNameError, MessageError, quoted
from idlib.names import IdentityName

MAX_RECIPIENTS: Final = 10_000
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_MAX_SHOWN: Final = 300
_STDIN: Final = Path("-")
_HINT: Final = "write one device name on each line; # starts a comment. Nothing was sent"


def read_name(text: str) -> IdentityName:
    """Return the recipient that a user has named.

    Args:
        text: The name.

    Raises:
        MalformedNameError: It is an IP address, or not a device name.
    """
    if re.fullmatch(r"[0-9.]+", text):
        raise MalformedNameError(f"{text!r} is an IP address", "give the device's DNS name")
    try:
        return IdentityName(text)
    except MalformedNameError as error:
        raise MalformedNameError(f"{text[:_MAX_SHOWN]!r} is not a device name", error.hint) from error


def several(names: Iterable[IdentityName], path: Path | None) -> tuple[IdentityName, ...]:
    """Return the recipients of a message, each once, in the order in which they are first named.

    Args:
        names: The names from the command line.
        path: A file of further names, or `-` for stdin; None for no file.

    Raises:
        MessageError: The file cannot be read, is too large, names no recipient, or has a line that is not a device
            name; or there are more than 10000 recipients.
    """
    found = dict.fromkeys(names)
    if path is not None:
        found |= dict.fromkeys(_read_file(path))
    if len(found) > MAX_RECIPIENTS:
        raise MessageError(f"{len(found)} recipients are too many (limit: {MAX_RECIPIENTS})", "send it in parts")
    return tuple(found)


def parse_lines(octets: bytes, what: str) -> tuple[IdentityName, ...]:
    """Return the names in the lines of a file; blank lines and comments, which begin with `#`, are skipped.

    Args:
        octets: The contents of the file.
        what: The file's name in an error.

    Raises:
        MessageError: A line is not UTF-8 or not a device name, or there is no name.
    """
    names: list[IdentityName] = []
    problems: list[str] = []
    for number, line in enumerate(octets.split(b"\n"), 1):
        word = line.partition(b"#")[0].strip()
        if not word:
            continue
        try:
            names.append(read_name(word.decode()))
        except UnicodeDecodeError:
            problems.append(f"line {number} is not UTF-8")
        except MalformedNameError as error:
            problems.append(f"line {number}: {error.fact}")
    if problems:
        more = f", and {len(problems) - 1} more lines are wrong" if len(problems) > 1 else ""
        raise MessageError(f"{what}, {problems[0]}{more}", _HINT)
    if not names:
        raise MessageError(f"{what} names no recipient", _HINT)
    return tuple(names)


def _read_file(path: Path) -> tuple[IdentityName, ...]:
    if path == _STDIN:
        if sys.stdin is None:
            raise MessageError("stdin is closed", "give --to-file FILE")
        return parse_lines(_limited(sys.stdin.buffer, "stdin"), "stdin")
    what = quoted(path)
    try:
        with path.open("rb") as file:
            return parse_lines(_limited(file, what), what)
    except OSError as error:
        raise MessageError(f"{what} cannot be read: {error.strerror}") from error


def _limited(file: BinaryIO, what: str) -> bytes:
    octets = file.read(MAX_FILE_BYTES + 1)
    if len(octets) > MAX_FILE_BYTES:
        raise MessageError(f"{what} is larger than {MAX_FILE_BYTES} bytes", "name the recipients in several files")
    return octets
