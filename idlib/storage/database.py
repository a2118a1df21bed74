"""An SQLite file in which each change is atomic and durable, even if the process is killed or the power is cut."""

import contextlib
import fcntl
import functools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from idlib.errors import StoreError, quoted
from idlib.files import DIRECTORY_MODE, FILE_MODE, status_of
from idlib.storage import last_write, salvage
from idlib.storage.connected_file import BUSY_SECONDS, ConnectedFile
from idlib.storage.file_errors import (
    DamagedError,
    describing_errors,
    how_to_get_in,
    judging_rows,
    translating_errors,
)
from idlib.storage.lock_file import LockFile
from idlib.storage.pages import user_version
from idlib.storage.salvage import LOG, Table, beside

_LOG = logging.getLogger(__name__)

# The hint for the receiver's files.
STOP_THE_OTHER_RECEIVER: Final = "stop the other receiver, or give this one a DATA_PATH of its own"
_NO_DESCRIPTOR: Final = -1
_WIPE_SECONDS: Final = 1.0
# If a disk damages each new file, it must not fill up with damaged ones.
_REPAIR_PAUSE_SECONDS: Final = 60.0

D = TypeVar("D", bound="Database")
P = ParamSpec("P")
T = TypeVar("T")


def repairing(method: Callable[Concatenate[D, P], T]) -> Callable[Concatenate[D, P], T]:
    """If a method of a database finds the file damaged, repair it and call the method again, once.

    Args:
        method: Must be atomic; must not be called within a transaction.
    """

    @functools.wraps(method)
    def repaired(self: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except DamagedError as error:
            self.repair(error)
        return method(self, *args, **kwargs)

    return repaired


class Database(ConnectedFile):
    """One file, used by any number of threads; a subclass defines its contents.

    A damaged file is moved aside and replaced by a new one that has every readable row.

    Args:
        path: The file; its directory is created if it is missing.
        schema: SQL that creates the tables; run once on a file of an older version, so it must keep existing rows.
        version: The version of the schema, stored in the file.
        tables: The tables to copy from a damaged file.
        keeps_texts: Whether deleted content must be overwritten in the file.
        advice: The hint for the user if another process uses the file; empty if several may use it at once.

    Raises:
        StoreError: The directory or the file cannot be used, another process uses it although only one may, or a newer
            version of this software wrote it.
    """

    # What the user has to know about the lost rows.
    _loss = "the others are lost"
    # Whether an empty file may be one that a process has just created; if not, it was truncated.
    _may_be_empty = False
    # Whether it matters when a damaged file was last written.
    _needs_last_write = False

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        tables: Sequence[Table],
        *,
        keeps_texts: bool,
        advice: str = "",
    ) -> None:
        super().__init__(path, schema, version, keeps_texts=keeps_texts)
        self._tables = tables
        self._advice = advice
        self._is_shared = not advice
        self._is_closed = False
        self._lock = threading.RLock()
        self._is_wipe_due = False
        self._wiped_at = 0.0
        # When the last repair was tried, its result, and what the user can do.
        self._repaired_at: float | None = None
        self._last_repair = ""
        self._last_hint = ""
        with describing_errors(self._path):
            path.parent.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            self._lock_file = LockFile(self._path)
            try:
                # A process that opens the file at the same time must not mistake our unfinished writes for damage.
                with self._lock_file.replacing():
                    self._open()
            except BaseException:
                self._lock_file.close()
                raise

    def _open(self) -> None:
        salvage.finish_replacement(self._path)
        found = status_of(self._path)
        # Read this before anything is written: nothing in a damaged file can be newer.
        self._last_write = last_write.last_write(self._path)
        self._descriptor = self._open_descriptor()
        try:
            if self._advice:
                # Before any repair: if another process uses the file, that process repairs it.
                self._take_hold(self._advice)
            self._note_last_write(self._last_write)
            try:
                self._connect_first(None if found is None else found.st_size)
                self._change_page_size()
            except DamagedError as error:
                self._repair(error)
        except BaseException:
            self._disconnect()
            if found is None and os.fstat(self._descriptor).st_size == 0:
                # The next start would take an empty file for a truncated one.
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise

    def _note_last_write(self, moment: int | None) -> None:
        if self._needs_last_write and moment is not None:
            last_write.note(self._path, moment)

    def _forget_last_write(self) -> None:
        """Remove the note of when the file was last written: from now on, the time of the file itself is right."""
        if self._needs_last_write:
            with describing_errors(self._path):
                last_write.forget(self._path)

    def _connect_first(self, size: int | None) -> None:
        log = status_of(beside(self._path, LOG))
        # SQLite removes the WAL of an empty file.
        if size == 0 and (not self._may_be_empty or (log is not None and log.st_size > 0)):
            raise DamagedError(f"{quoted(self._path)} is empty")
        self._connect()

    def _change_page_size(self) -> None:
        """Rewrite a file of an earlier release that has pages of another size, if only this process can have it open.

        A crash at any point leaves the old file or the new one in place, and the next start removes what is unfinished.
        """
        found = int(self._connection.execute("PRAGMA page_size").fetchone()[0])
        if not self._is_held or found == self._page_bytes:
            return
        _LOG.info("Rewriting %s in smaller pages: %d bytes instead of %d", quoted(self._path), self._page_bytes, found)
        try:
            self._rewrite()
        except DamagedError:
            raise
        except StoreError as error:
            if self._opened is None:
                raise
            # It can be used as it is; the next start tries again.
            _LOG.warning("The size of its pages stays: %s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, so that another process may hold it; after that, every other method raises StoreError."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                self._disconnect()
            finally:
                # The system may reuse the number for another file.
                descriptor, self._descriptor = self._descriptor, _NO_DESCRIPTOR
                os.close(descriptor)
                self._lock_file.close()

    @contextlib.contextmanager
    def _closed_after_failure(self) -> Iterator[None]:
        """Close the file if the block fails: the caller of the constructor has no object to close."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _require_open(self) -> None:
        if self._is_closed:
            raise StoreError(f"{quoted(self._path)} is closed")

    def repair(self, damage: DamagedError) -> None:
        """Move the file aside, and replace it with a new one that has every readable row.

        Args:
            damage: The error that was found.

        Raises:
            StoreError: The repair failed; the damaged file is unchanged.
        """
        with self._lock, translating_errors(self._path):
            self._require_open()
            self._repair_alone(damage)

    def _repair_alone(self, damage: DamagedError) -> None:
        with self._lock_file.replacing():
            if self._is_moved():
                # Another process has repaired it.
                self._reopen()
            else:
                self._repair(damage)

    def _repair(self, damage: DamagedError) -> None:
        now = time.monotonic()
        if self._repaired_at is not None and now - self._repaired_at < _REPAIR_PAUSE_SECONDS:
            raise StoreError(f"{damage.fact}; {self._last_repair}", self._last_hint)
        with translating_errors(self._path):
            # A repair would lose the tables that this version does not know.
            self._refuse_newer(user_version(self._descriptor, _content(beside(self._path, LOG))))
        self._repaired_at = now
        self._last_repair = f"it was repaired less than {_REPAIR_PAUSE_SECONDS:.0f} s ago"
        self._last_hint = "replace the disk: it damages the files that are written to it"
        # If the repair is interrupted, the next start uses this time, from before the repair.
        self._note_last_write(self._latest_possible_write())
        try:
            self._replace(damage)
        except PermissionError as error:
            self._last_repair = f"it cannot be repaired: {error.strerror}"
            self._last_hint = how_to_get_in(self._path.parent)
            raise StoreError(f"{quoted(self._path)} cannot be repaired: {error.strerror}", self._last_hint) from error
        except (OSError, sqlite3.Error) as error:
            self._last_repair = f"it cannot be repaired: {error}"
            self._last_hint = "free space on the disk: a repair writes a new file beside the damaged one"
            raise StoreError(f"{damage.fact}; {self._last_repair}", self._last_hint) from error

    def _replace(self, damage: DamagedError) -> None:
        if self._opened is not None:
            with contextlib.suppress(sqlite3.Error):
                # From here on, no other process can change the damaged file, if SQLite can still lock it.
                self._opened.execute("BEGIN IMMEDIATE")
        new = salvage.new_file(self._path)
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        try:
            number = salvage.copy_rows(
                self._descriptor,
                _content(beside(self._path, LOG)),
                new,
                self._schema,
                self._version,
                self._page_bytes,
                self._tables,
                self._complete,
            )
            if self._is_held:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            moved = salvage.replace(self._path)
        except BaseException:
            os.close(descriptor)
            # If the damaged file has been moved, keep the new one: the next start puts it in place.
            if self._path.exists():
                new.unlink(missing_ok=True)
            if self._opened is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._opened.execute("ROLLBACK")
            raise
        self._disconnect()
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._connect_again()
        _LOG.error(
            "A damaged file was moved aside: %s; it is now %s; %d readable rows were kept; %s",
            damage.fact,
            quoted(moved),
            number,
            self._loss,
        )
        self._forget_last_write()

    def _latest_possible_write(self) -> int | None:
        """Return the latest time at which a damaged file can have been written; None if that is not known."""
        return self._last_write

    def _complete(self, connection: sqlite3.Connection) -> None:
        """Write what the new file needs in addition to the rows of the damaged one.

        Args:
            connection: The connection to the new file, in a transaction.
        """

    @repairing
    def wipe(self) -> None:
        """Erase removed texts from every file, if any may be left; at most once a second.

        SQLite overwrites deleted content in the file, but the log still has the earlier version of the page, so the log
        is emptied (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
        """
        with self._lock:
            if self._is_wipe_due and time.monotonic() - self._wiped_at >= _WIPE_SECONDS:
                self._wipe_now()

    def _try_to_wipe(self) -> None:
        # The change itself is durable and must not be reported as failed; the next call wipes again.
        with contextlib.suppress(StoreError):
            self.wipe()

    def _wipe_now(self) -> None:
        with self._reading() as connection:
            # If another process is using the log, do not wait for it: the next call tries again.
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                self._is_wipe_due = bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
                self._wiped_at = time.monotonic()

    def _hold(self, advice: str) -> None:
        """Hold the file until it is closed, so that no other process can hold it.

        Args:
            advice: The hint for the user if another process holds it.

        Raises:
            StoreError: Another process holds the file, or it cannot be locked; the file has been closed.
        """
        with self._lock, self._closed_after_failure():
            self._require_open()
            self._take_hold(advice)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translating_errors(self._path), contextlib.ExitStack() as stack:
            connection = self._begin(stack)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def _begin(self, stack: contextlib.ExitStack) -> sqlite3.Connection:
        """Begin a transaction during which no other process can repair the file.

        Args:
            stack: Releases the lock; the caller leaves it after the transaction.
        """
        connection = self._current_connection()
        if self._is_shared:
            stack.enter_context(self._lock_file.writing())
            while self._is_moved():
                stack.close()
                connection = self._current_connection()
                stack.enter_context(self._lock_file.writing())
        connection.execute("BEGIN IMMEDIATE")
        return connection

    def _judging_rows(self) -> contextlib.AbstractContextManager[None]:
        """Report errors in handling rows as damage to the file."""
        return judging_rows(self._path)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translating_errors(self._path):
            yield self._current_connection()

    def _current_connection(self) -> sqlite3.Connection:
        self._require_open()
        if self._opened is None or (self._is_shared and not self._opened.in_transaction and self._is_moved()):
            # There is no connection if a repair failed after it had disconnected.
            with self._lock_file.replacing():
                self._reopen()
        return self._connection


def _content(path: Path) -> bytes:
    """Return the content of a file; empty if there is no file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
