"""Reads the files that settings name."""

from pathlib import Path
from typing import Final

from idlib.errors import ConfigurationError, quoted
from idlib.files import read_regular

# Larger than a file with all CAs of a system.
_MAX_FILE_BYTES: Final = 4 * 1024 * 1024
# The most that a field of a CONNECT packet can hold (MQTT 5, section 1.5.6).
_MAX_PASSWORD_BYTES: Final = 65535
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def read_named_file(name: str, path: Path) -> bytes:
    """Return the contents of a file that a setting names.

    Args:
        name: The setting.
        path: The file.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        return read_regular(path, _MAX_FILE_BYTES)
    except OSError as error:
        raise fault_of_file(name, path, f"cannot be read: {error.strerror}") from error


def fault_of_file(name: str, path: Path, what: str) -> ConfigurationError:
    """Return the error for a file that cannot be used.

    Args:
        name: The setting that names it.
        path: The file.
        what: What is wrong, such as "is empty".
    """
    return ConfigurationError(f"Bad value of env var {name}: {quoted(path)} {what}")


def read_password(name: str, path: Path | None) -> str | None:
    """Return the password in a file: its first line.

    Args:
        name: The setting that names the file.
        path: The file; None if there is no password.

    Raises:
        ConfigurationError: The file cannot be read, or has no password that can be used.
    """
    if path is None:
        return None
    contents = read_named_file(name, path)
    if contents.startswith(_UTF_16_MARKS):
        raise fault_of_file(name, path, "is in UTF-16; save it in UTF-8")
    lines = contents.removeprefix(b"\xef\xbb\xbf").splitlines()
    if not lines or not lines[0]:
        raise fault_of_file(name, path, "holds no password: its first line is empty")
    if len(lines[0]) > _MAX_PASSWORD_BYTES:
        raise fault_of_file(name, path, f"holds a password of more than {_MAX_PASSWORD_BYTES} bytes")
    try:
        return lines[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise fault_of_file(
            name, path, f"has byte {error.start + 1} of line 1 that is not UTF-8; save it in UTF-8"
        ) from error
