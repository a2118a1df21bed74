"""Reads a file of environment variables, in the form that systemd's EnvironmentFile and Compose's env_file share.

What only one of them accepts, or what each reads differently, is an error, so that a file means the same to all three.
"""

import os
import re
import shlex
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from idlib.errors import ConfigurationError, quoted
from idlib.files import open_regular

_MAX_BYTES: Final = 65_536
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The last word of a variable's name, if its value is a secret. None of the project's own ends so: they only
# name files of secrets.
_SECRETS: Final = frozenset({"CREDENTIAL", "CREDENTIALS", "KEY", "PASSPHRASE", "PASSWD", "PASSWORD", "SECRET", "TOKEN"})
# No character but the tab that is invisible or ends a line somewhere.
_UNPRINTABLE: Final = re.compile(r"[^\t\x20-\x7e\xa0-\u2027\u202a-\U0010ffff]")
# systemd and Compose read each of these differently if it is not in single quotes.
_AMBIGUOUS: Final = {"$": "a dollar sign", "\\": "a backslash"}
_BLANKS: Final = " \t"


class _LineError(Exception):
    """A line cannot be read; the text says why."""


def load_env_file(path: Path) -> None:
    """Set the variables of a file that the environment does not have, for this process and those that it starts.

    Args:
        path: The file.

    Raises:
        ConfigurationError: The file or one of its lines cannot be read, other users can write it, or it has a secret
            and other users can read it. No variable is set.
    """
    variables = read_env_file(path)
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file.

    Args:
        path: The file.

    Raises:
        ConfigurationError: As for `load_env_file`.
    """
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            contents = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"Error: {quoted(path)} cannot be read: {error.strerror}") from error
    if len(contents) > _MAX_BYTES:
        raise ConfigurationError(f"Error: {quoted(path)} has more than {_MAX_BYTES} bytes; give the right file")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"Error: other users can write {quoted(path)} (mode {mode:04o}); run chmod go-w {shlex.quote(str(path))}"
        )
    variables = parse(contents, quoted(path))
    secret = next((name for name in variables if _is_secret(name)), None)
    if secret is not None and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ConfigurationError(
            f"Error: other users can read {quoted(path)} (mode {mode:04o}), which has {secret}; run chmod 600"
            f" {shlex.quote(str(path))}, and replace the secret if others may have read it"
        )
    return variables


def parse(contents: bytes, file: str) -> dict[str, str]:
    """Return the variables in the contents of a file.

    Args:
        contents: Of the file.
        file: What to call it in an error.

    Raises:
        ConfigurationError: A line cannot be read. The error has its number, but nothing of a value.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(contents.split(b"\n"), 1):
        try:
            variables.update(_read_line(line, variables))
        except _LineError as error:
            raise ConfigurationError(f"Error: {file}, line {number}: {error}") from error
    return variables


def _is_secret(name: str) -> bool:
    return name.upper().rpartition("_")[2] in _SECRETS


def _read_line(line: bytes, before: Collection[str]) -> dict[str, str]:
    """Return the variable in a line; none if it is empty or a comment. `before` has the names in earlier lines.

    Raises:
        _LineError: It is something else.
    """
    if line.endswith(b"\r"):
        raise _LineError("it ends with a carriage return; save the file with the line ends of Unix")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _LineError("it is not valid UTF-8; save the file as UTF-8") from error
    if _UNPRINTABLE.search(text):
        raise _LineError("it has a control character; remove it")
    text = text.strip(_BLANKS)
    if not text or text.startswith("#"):
        return {}
    name, equals, value = text.partition("=")
    if not equals:
        raise _LineError("it has no equals sign; write NAME=VALUE")
    if name.startswith(("export ", "export\t")):
        raise _LineError("remove the word export")
    if name != name.strip(_BLANKS) or value != value.strip(_BLANKS):
        raise _LineError("remove the white space beside the equals sign")
    if not _NAME.fullmatch(name):
        raise _LineError("the name is not one of a variable; use letters, digits and _")
    if name in before:
        raise _LineError(f"{name} is set a second time; remove one of the lines")
    return {name: _read_value(value)}


def _read_value(text: str) -> str:
    """Return a value without its quotes.

    Raises:
        _LineError: It could be read in several ways.
    """
    if text[:1] == "'":
        return _read_single_quoted(text)
    if text[:1] == '"':
        return _read_double_quoted(text)
    _require_unambiguous(text)
    if "'" in text or '"' in text:
        raise _LineError("a quotation mark is inside the value; put the whole value into the other kind of quotes")
    if "#" in text:
        raise _LineError(
            "# is in the value or begins a comment; put the value into quotes, or the comment on its own line"
        )
    return text


def _read_single_quoted(text: str) -> str:
    value, quote, rest = text[1:].partition("'")
    _require_end(quote, rest)
    if value.endswith("\\"):
        raise _LineError("a backslash is before the closing quote; write the value in another way")
    return value


def _read_double_quoted(text: str) -> str:
    found = re.match(r'"((?:[^"\\]|\\.)*)(")?', text)
    assert found is not None  # noqa: S101  # the text starts with a quote
    _require_end(found[2], text[found.end() :])
    value = found[1]
    plain = re.sub(r'\\(["\\])', "", value)
    _require_unambiguous(plain)
    return re.sub(r'\\(["\\])', r"\1", value)


def _require_end(quote: str | None, rest: str) -> None:
    if not quote:
        raise _LineError("the closing quote is missing; a value ends on its line")
    if rest:
        raise _LineError("something follows the closing quote; put a comment on its own line")


def _require_unambiguous(text: str) -> None:
    for character, name in _AMBIGUOUS.items():
        if character in text:
            raise _LineError(f"the value has {name}; put it into single quotes")
