"""An SQLite file of this program: its connection, its descriptor, and what keeps other processes away from it."""

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import FILE_MODE, check_regular, make_durable, open_regular, status_of
from idlib.storage import salvage
from idlib.storage.file_errors import DamagedError, describing_errors, translating_errors
from idlib.storage.lock_file import LockFile, is_open_elsewhere, lock_for_earlier_releases
from idlib.storage.pages import is_log_damaged
from idlib.storage.salvage import LOG, beside

_LOG = logging.getLogger(__name__)

BUSY_SECONDS: Final = 10.0
# SQLite's own limit is 2000; beside the system's cache of files, a larger cache gains nothing.
_CACHED_KIB: Final = 512


class ConnectedFile:
    """The file under one path, which a repair or another process may replace; `Database` says when to do what.

    Args:
        path: The file; its directory exists when the file is opened.
        schema: SQL that creates the tables.
        version: The version of the schema, stored in the file.
        keeps_texts: Whether deleted content must be overwritten in the file.
    """

    # The size of a page: each change writes at least one.
    _page_bytes = 4096

    _lock_file: LockFile
    # Of the file; the connection has a descriptor of its own.
    _descriptor: int

    def __init__(self, path: Path, schema: str, version: int, *, keeps_texts: bool) -> None:
        self._path = salvage.resolved(path)
        self._schema = schema
        self._version = version
        self._keeps_texts = keeps_texts
        self._is_held = False
        self._opened: sqlite3.Connection | None = None

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._opened is not None  # noqa: S101  # for mypy
        return self._opened

    def _open_descriptor(self) -> int:
        with describing_errors(self._path):
            for end in (*salvage.SIDE_FILES, salvage.JOURNAL):
                # SQLite would wait forever for someone to write to a named pipe.
                side_file = beside(self._path, end)
                if (status := status_of(side_file)) is not None:
                    check_regular(status, side_file)
            # Create the database file here with the right mode: SQLite copies that mode to its other files.
            return open_regular(self._path, os.O_RDWR | os.O_CREAT)

    def _connect(self) -> None:
        """Connect to the file; check it if no other process has it open and the last one did not close it.

        The lock file is locked, so no other process can connect at the same time.
        """
        log = beside(self._path, LOG)
        # In this order: a process that still has the file open can remove the log when it closes it.
        is_suspect = not is_open_elsewhere(self._descriptor) and log.exists()
        with translating_errors(self._path):
            if is_suspect and is_log_damaged(log.read_bytes()):
                # SQLite would ignore everything after the damage, and remove it.
                raise DamagedError(f"{quoted(log)} is damaged")
            self._opened = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            self._prepare(self._opened)
            if is_suspect:
                _LOG.info("Checking %s: it was not closed properly", quoted(self._path))
                (found,) = self._opened.execute("PRAGMA integrity_check(1)").fetchone()
                if found != "ok":
                    raise DamagedError(f"{quoted(self._path)} is damaged: {found}")
                self._sync_log()

    def _disconnect(self) -> None:
        connection, self._opened = self._opened, None
        if connection is not None:
            connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        self._refuse_newer(found)
        # This has an effect only on a file that is still empty.
        connection.execute(f"PRAGMA page_size = {self._page_bytes}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # A container's root file system may be read-only, with no place for temporary files.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{_CACHED_KIB}")
        if self._keeps_texts:
            connection.execute("PRAGMA secure_delete = ON")
        if found < self._version:
            connection.executescript(f"BEGIN IMMEDIATE; {self._schema}; PRAGMA user_version = {self._version}; COMMIT")

    def _rewrite(self) -> None:
        new = salvage.new_file(self._path)
        with translating_errors(self._path), contextlib.ExitStack() as stack:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
            stack.callback(new.unlink, missing_ok=True)
            stack.callback(os.close, descriptor)
            self._connection.execute(f"PRAGMA page_size = {self._page_bytes}")
            self._connection.execute("VACUUM INTO ?", (str(new),))
            make_durable(new)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The new file has everything that the log has: SQLite must not find the log beside the new file.
            self._disconnect()
            make_durable(self._path.parent)
            if beside(self._path, LOG).exists():
                self._connect_again()
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            new.rename(self._path)
            stack.pop_all()
            os.close(self._descriptor)
            self._descriptor = descriptor
            make_durable(self._path.parent)
            self._connect_again()

    def _refuse_newer(self, version: int) -> None:
        if version > self._version:
            raise StoreError(
                f"{quoted(self._path)} was written by a newer version of this software",
                "install that version again, or set DATA_PATH to another directory",
            )

    def _is_moved(self) -> bool:
        """Return whether another process has replaced the file."""
        found, ours = status_of(self._path), os.fstat(self._descriptor)
        return found is None or (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)

    def _reopen(self) -> None:
        self._disconnect()
        descriptor = self._open_descriptor()
        os.close(self._descriptor)
        self._descriptor = descriptor
        if self._is_held:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._connect_again()

    def _connect_again(self) -> None:
        try:
            self._connect()
        except BaseException:
            # The next call connects again.
            self._disconnect()
            raise

    def _take_hold(self, advice: str) -> None:
        try:
            self._is_held = self._lock_file.hold() and lock_for_earlier_releases(self._descriptor)
        except OSError as error:
            raise StoreError(
                f"{quoted(self._path)} cannot be locked: {error.strerror}",
                "set DATA_PATH to a directory on a file system that supports locks",
            ) from error
        if not self._is_held:
            raise StoreError(f"{quoted(self._path)} is in use by another process", advice)

    def _sync_log(self) -> None:
        """Wait until every transaction is on the disk, including those that were committed without a sync."""
        # The last process to close the file writes the log's content to the file and removes the log.
        with translating_errors(self._path), contextlib.suppress(FileNotFoundError):
            make_durable(beside(self._path, LOG))
