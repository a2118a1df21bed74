"""An SQLite file of which each change is whole and durable, under whatever end of the process or of the power."""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from idlib.errors import StoreError, how_to_take_over, quoted

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_BUSY_SECONDS: Final = 10.0
# https://www.sqlite.org/rescode.html: an extended code holds the primary one in its low octet.
_PRIMARY_CODE: Final = 0xFF
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


class Database:
    """One file, to be used by any number of threads; what stands in it is for whoever builds on this.

    Args:
        path: Where it lies; its directory is made where it is missing.
        schema: SQL that makes the tables that are missing.

    Raises:
        StoreError: The directory or the file cannot be used.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            # SQLite gives its files the mode of the database, which for that must be there before it.
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        except OSError as error:
            is_of_another = isinstance(error, PermissionError) and os.path.isdir(path.parent)
            raise StoreError(
                f"{quoted(path)} cannot be used: {error.strerror}",
                _how_to_get_in(path.parent) if is_of_another else "set DATA_PATH to a directory that can be written",
            ) from error
        try:
            with self._translating_errors():
                self._connection = sqlite3.connect(
                    path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
                )
                try:
                    self._connection.execute("PRAGMA journal_mode = WAL")
                    self._connection.execute("PRAGMA synchronous = FULL")
                    self._connection.executescript(schema)
                except BaseException:
                    self._connection.close()
                    raise
        except StoreError:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let another process have it."""
        with self._lock:
            self._connection.close()
            os.close(self._descriptor)

    def _hold(self, advice: str) -> None:
        """Hold the file against other processes that want to, until it is closed.

        Args:
            advice: What to do where another one holds it.

        Raises:
            StoreError: Another one holds it; the file is closed then.
        """
        try:
            # flock, unlike the record locks that SQLite takes on the same file, does not meet those.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise StoreError(f"{quoted(self._path)} is in use by another process", advice) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translating_errors():
            yield self._connection

    @contextlib.contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            is_of_another = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _FORBIDDEN
            raise StoreError(
                f"{quoted(self._path)} cannot be read or written: {error}",
                _how_to_get_in(self._path.parent) if is_of_another else "check the disk's space and the file's owner",
            ) from error


def _how_to_get_in(directory: Path) -> str:
    # Not the command alone: a stranger's directory on a laptop is none to be taken over.
    return (
        "set DATA_PATH to a directory that this user may write, or give it this one:"
        f" {how_to_take_over(directory, 'messaging_sender')}"
    )
