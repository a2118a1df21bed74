"""Reads files that hold a credential for DNS: private by mode, small, and never quoted in an error."""

import os
import re
import shlex
import stat
from pathlib import Path
from typing import Final

from idlib.errors import CredentialError, quoted
from idlib.files import open_regular

_MAX_BYTES: Final = 16_384
# What deSEC makes its tokens of, now and before.
_TOKEN: Final = re.compile("[A-Za-z0-9_-]+")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_credential(path: Path) -> str:
    """Return the text of a file that only its owner may read or write.

    Args:
        path: The file.

    Raises:
        CredentialError: It is missing, unreadable, too large, open to other users, or not text.
    """
    try:
        with open(open_regular(path, os.O_RDONLY), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            contents = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise CredentialError(
            f"there is no {quoted(path)}", "put the credential there, readable only by you"
        ) from error
    except PermissionError as error:
        raise CredentialError(f"cannot read {quoted(path)}: {error.strerror}", "check its owner and mode") from error
    except OSError as error:
        raise CredentialError(f"cannot read {quoted(path)}: {error.strerror}", "put the right file there") from error
    if mode & _OTHERS:
        raise CredentialError(
            f"other users can read or write the credential {quoted(path)} (mode {stat.S_IMODE(mode):04o})",
            f"run chmod 600 {shlex.quote(str(path))}, and replace the credential if others may have read it",
        )
    if len(contents) > _MAX_BYTES:
        raise CredentialError(f"{quoted(path)} is too large for a credential", "put the right file there")
    try:
        return contents.decode("ascii")
    except UnicodeDecodeError as error:
        raise CredentialError(f"{quoted(path)} is not text", "put the right file there") from error


def read_secret(path: Path) -> str:
    """Return the one word in a file: a token.

    Args:
        path: The file.

    Raises:
        CredentialError: It cannot be read, or does not have exactly one word of letters, digits, - and _.
    """
    words = read_credential(path).split()
    if len(words) != 1 or not _TOKEN.fullmatch(words[0]):
        raise CredentialError(
            f"{quoted(path)} does not hold exactly one token",
            "put only the token there, without a name before it and without quotation marks",
        )
    return words[0]
