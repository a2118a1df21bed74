"""An SQLite file in which each change is complete and durable, however the process or the power ends."""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from idlib.errors import StoreError, how_to_take_over, quoted

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_BUSY_SECONDS: Final = 10.0
_WIPE_SECONDS: Final = 1.0
# https://www.sqlite.org/rescode.html: an extended code holds the primary one in its low octet.
_PRIMARY_CODE: Final = 0xFF
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


class Database:
    """One file, used by any number of threads; a subclass says what is kept in it.

    Args:
        path: Where the file is; its directory is created if it is missing.
        schema: SQL that creates the tables; run once for a file of an older version, so it must keep what is there.
        version: The version of the schema, kept in the file.
        keeps_texts: Whether deleted content has to be overwritten in the file.

    Raises:
        StoreError: The directory or the file cannot be used, or a newer version of this software wrote the file.
    """

    def __init__(self, path: Path, schema: str, version: int, *, keeps_texts: bool) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._is_wipe_due = False
        self._wiped_at = 0.0
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
                self._prepare(schema, version, keeps_texts)
            except BaseException:
                self._connection.close()
                raise
        except StoreError:
            os.close(self._descriptor)
            raise

    def _prepare(self, schema: str, version: int, keeps_texts: bool) -> None:  # noqa: FBT001  # as in the constructor
        with self._translating_errors():
            found = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if found > version:
                raise StoreError(
                    f"{self._path} was written by a newer version of this software",
                    "install that version again, or set DATA_PATH to another directory",
                )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            # A container's root may be read-only, with no place for temporary files.
            self._connection.execute("PRAGMA temp_store = MEMORY")
            if keeps_texts:
                self._connection.execute("PRAGMA secure_delete = ON")
            if found < version:
                self._connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which another process may then hold."""
        with self._lock:
            self._connection.close()
            os.close(self._descriptor)

    def wipe(self) -> None:
        """Make sure that no removed text is left in any file, if one may be; at most once a second.

        SQLite overwrites deleted content in the file, but its log still holds the page as it was before: the log is
        emptied (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
        """
        with self._lock:
            if self._is_wipe_due and time.monotonic() - self._wiped_at >= _WIPE_SECONDS:
                self._wipe_now()

    def _try_to_wipe(self) -> None:
        # The change before is durable and must not be reported as failed; the next call wipes again.
        with contextlib.suppress(StoreError):
            self.wipe()

    def _wipe_now(self) -> None:
        with self._reading() as connection:
            # If another process uses the log just now, the next call tries again; nobody waits for that process.
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                self._is_wipe_due = bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
                self._wiped_at = time.monotonic()

    def _hold(self, advice: str) -> None:
        """Hold the file until it is closed, so that no other process can.

        Args:
            advice: What to do if another process holds it.

        Raises:
            StoreError: Another process holds it; the file is closed then.
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
