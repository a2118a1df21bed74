"""Tells whether an error from SQLite or the operating system means that a store's file is damaged or is unusable."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, permission_hint, quoted
from idlib.files import NotRegularError

# https://www.sqlite.org/rescode.html: the low byte of an extended code is the primary code.
_PRIMARY_CODE: Final = 0xFF
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
# Our statements fit our schema and its constraints: if SQLite reports otherwise, the file is damaged.
_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_INTERNAL,
    }
)
_DAMAGE_OF_READING: Final = frozenset({sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})


class DamagedError(StoreError):
    """The file has content that neither SQLite nor this program wrote."""


@contextlib.contextmanager
def describing_errors(path: Path) -> Iterator[None]:
    """Report an error of the operating system as a file that cannot be used.

    Args:
        path: The file, in DATA_PATH.

    Raises:
        StoreError: The block raised an OSError.
    """
    try:
        yield
    except NotRegularError as error:
        raise StoreError(
            f"{quoted(error.filename)} cannot be used: {error.strerror}",
            "move it away, or set DATA_PATH to another directory",
        ) from error
    except OSError as error:
        is_of_another = isinstance(error, PermissionError) and os.path.isdir(path.parent)
        raise StoreError(
            f"{quoted(path)} cannot be used: {error.strerror}",
            how_to_get_in(path.parent) if is_of_another else "set DATA_PATH to a directory that can be written",
        ) from error


@contextlib.contextmanager
def judging_rows(path: Path) -> Iterator[None]:
    """Report errors in handling rows as damage to their file.

    Args:
        path: The file.

    Raises:
        DamagedError: The block raised a ValueError or a TypeError.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise DamagedError(f"{quoted(path)} has an invalid row: {error}") from error


@contextlib.contextmanager
def translating_errors(path: Path) -> Iterator[None]:
    """Report an error from SQLite or the operating system as damage to a file, or as a file that cannot be used.

    Args:
        path: The file.

    Raises:
        DamagedError: The file is damaged.
        StoreError: The file cannot be read or written for another reason.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        # SQLite's error message quotes damaged content.
        raise DamagedError(f"{quoted(path)} is damaged") from error
    except (sqlite3.Error, OSError) as error:
        if _is_damage(error):
            raise DamagedError(f"{quoted(path)} is damaged: {error}") from error
        code = getattr(error, "sqlite_errorcode", 0)
        is_of_another = isinstance(error, PermissionError) or code & _PRIMARY_CODE in _FORBIDDEN
        raise StoreError(
            f"{quoted(path)} cannot be read or written: {error}",
            how_to_get_in(path.parent) if is_of_another else "check the free space on the disk and the file's owner",
        ) from error


def _is_damage(error: Exception) -> bool:
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Python's sqlite3 module found a text that is not UTF-8.
        return isinstance(error, sqlite3.OperationalError)
    return code in _DAMAGE_OF_READING or code & _PRIMARY_CODE in _DAMAGE


def how_to_get_in(directory: Path) -> str:
    """Return a hint on what to do if this process has no access to a directory.

    Args:
        directory: The directory of the file.
    """
    # Suggest another directory first: on a laptop, this one may belong to another person.
    return (
        "set DATA_PATH to a directory that this user can write to, or give this user access:"
        f" {permission_hint(directory, 'messaging_sender')}"
    )
