"""The deferred messages, in a file of their own: when a message is removed, nothing of its text stays in the file."""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from idlib.errors import StoreError
from idlib.storage.database import STOP_THE_OTHER_RECEIVER, Database, repairing
from idlib.storage.pages import Value
from idlib.storage.salvage import Table, check_ascending, is_name
from idlib.storage.values import IDENTIFIER_BYTES, Abandoned, Admission, Dropped, WaitingEntry, WaitingMessage
from idlib.storage.waiting_columns import HEADER, columns_of, header_of

FILE_NAME: Final = "waiting.sqlite3"
_VERSION: Final = 2
_READ_AT_ONCE: Final = 500
# An empty file with at most this many pages is not shrunk: the next messages use them.
_KEPT_PAGES: Final = 64
# `sealed_to_epoch` has the numbers of the messages that were encrypted to an epoch key; files of version 1 lack it.
# The text is the last column and a blob, so that SQLite can return its length and the other columns without reading it.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    digest BLOB NOT NULL,
    identifier BLOB NOT NULL,
    issued_at INTEGER,
    received_at REAL NOT NULL,
    deferred_at REAL NOT NULL,
    is_asked_again INTEGER NOT NULL,
    is_reserved INTEGER NOT NULL,
    signed BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sealed_to_epoch (
    number INTEGER PRIMARY KEY
);
"""
_COLUMNS: Final = ", ".join(HEADER)


def _is_plausible(row: tuple[Value, ...]) -> bool:
    number, sender, _digest, identifier, *_others, is_asked_again, is_reserved, signed = row
    assert isinstance(number, int)  # noqa: S101  # for mypy, here and below
    assert isinstance(identifier, bytes)  # noqa: S101
    assert isinstance(signed, bytes)  # noqa: S101
    signed.decode()
    return (
        number > 0
        and is_name(sender)
        and len(identifier) == IDENTIFIER_BYTES
        and {is_asked_again, is_reserved} <= {0, 1}
    )


_TABLE: Final = Table(
    "waiting",
    (
        "number",
        "text",
        "blob",
        "blob",
        "integer or null",
        "real",
        "real",
        "integer",
        "integer",
        "blob",
    ),
    _is_plausible,
)
_EPOCH_TABLE: Final = Table("sealed_to_epoch", ("number",), lambda row: isinstance(row[0], int) and row[0] > 0)


class WaitingMessages(Database):
    """The file, held by one process at a time: a `WaitingStore`.

    Args:
        directory: Where the file is; created if it is missing.

    Raises:
        StoreError: The directory or the file cannot be used, another process holds it, or a newer version wrote it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory / FILE_NAME,
            _SCHEMA,
            _VERSION,
            (_TABLE, _EPOCH_TABLE),
            keeps_texts=True,
            advice=STOP_THE_OTHER_RECEIVER,
        )
        # A process that was killed may have left removed texts in the log.
        self._is_wipe_due = True
        self._last_new_number = 0
        with self._closed_after_failure():
            self.wipe()

    def close(self) -> None:
        """Erase removed texts and close the file, so that another process may hold it."""
        with self._lock:
            if self._is_wipe_due:
                # If this fails, the next start wipes the file.
                with contextlib.suppress(StoreError):
                    self._wipe_now()
            super().close()

    @property
    def is_shared(self) -> bool:
        """False: one process holds the file."""
        return False

    def new_numbers(self, count: int) -> Sequence[int]:
        """Return numbers for messages to be added, in ascending order and higher than all those in use.

        Args:
            count: How many.
        """
        with self._lock:
            # Not one of a message that was removed a moment ago: its reader may not know yet.
            last = max(self._last_new_number, self.last_number())
            self._last_new_number = last + count
            return range(last + 1, last + count + 1)

    @repairing
    def last_number(self) -> int:
        """Return the highest number of a deferred message, or 0."""
        with self._reading() as connection:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM waiting").fetchone()[0])

    def index(self) -> Iterator[WaitingEntry]:
        """Yield every deferred message without its text, ordered by number; keep only a few in memory."""
        last = 0
        while entries := self._entries_after(last):
            yield from entries
            last = entries[-1].number

    @repairing
    def _entries_after(self, number: int) -> list[WaitingEntry]:
        with self._reading() as connection, self._judging_rows():
            rows = connection.execute(
                f"SELECT {_COLUMNS}, length(signed) FROM waiting"  # noqa: S608  # of ours alone
                " WHERE number > ? ORDER BY number LIMIT ?",
                (number, _READ_AT_ONCE),
            ).fetchall()
            check_ascending((row[0] for row in rows), number)
            for *header, _ in rows:
                # The text is checked when it is read.
                _TABLE.check((*header, b""))
            return [WaitingEntry(**header_of(row), size=row[-1]) for row in rows]

    @repairing
    def read(self, numbers: Sequence[int]) -> tuple[WaitingMessage, ...]:
        """Return the deferred messages with these numbers, in the order of the numbers given; skip unknown numbers.

        Args:
            numbers: The numbers.
        """
        found = []
        with self._reading() as connection, self._judging_rows():
            for wanted in numbers:
                row = connection.execute(
                    f"SELECT {_COLUMNS}, signed, EXISTS (SELECT 1 FROM sealed_to_epoch WHERE number = ?1)"  # noqa: S608
                    " FROM waiting WHERE number = ?1",
                    (wanted,),
                ).fetchone()
                if row is not None:
                    *row, is_sealed_to_epoch = row
                    _TABLE.check(row)
                    found.append(
                        WaitingMessage(
                            **header_of(row), signed=row[-1].decode(), is_sealed_to_epoch=bool(is_sealed_to_epoch)
                        )
                    )
        return tuple(found)

    @repairing
    def change(self, added: Sequence[WaitingMessage], removed: Iterable[int]) -> tuple[Admission, ...]:
        """Add and remove deferred messages in one transaction, which is durable when this returns.

        Args:
            added: Messages with numbers that are not in use, so that a failed call can be repeated.
            removed: Numbers of messages to remove; unknown numbers are ignored.

        Returns:
            That each added message is ours.
        """
        with self._lock:
            with self._transaction() as connection:
                numbers = [(number,) for number in removed]
                gone = connection.executemany("DELETE FROM waiting WHERE number = ?", numbers)
                # Also of those that are added: a repair may have lost the message that had the number before.
                numbers += [(message.number,) for message in added]
                connection.executemany("DELETE FROM sealed_to_epoch WHERE number = ?", numbers)
                connection.executemany(
                    "INSERT INTO sealed_to_epoch VALUES (?)",
                    ((message.number,) for message in added if message.is_sealed_to_epoch),
                )
                connection.executemany(
                    f"INSERT OR REPLACE INTO waiting ({_COLUMNS}, signed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    ((*columns_of(message), message.signed.encode()) for message in added),
                )
            if gone.rowcount > 0:
                self._is_wipe_due = True
            self._try_to_wipe()
        return (Admission.OURS,) * len(added)

    def adopt(self, choose: Callable[[Sequence[Abandoned]], Collection[str]]) -> tuple[WaitingEntry, ...]:  # noqa: ARG002
        """Return nothing: every message is ours.

        Args:
            choose: Not called.
        """
        return ()

    def drop_abandoned(self, elapsed: float) -> tuple[Dropped, ...]:  # noqa: ARG002
        """Return nothing: every message is ours.

        Args:
            elapsed: Not used.
        """
        return ()

    @repairing
    def limit_deferral(self, elapsed: float) -> None:
        """Set the start of deferral to now for messages whose start is in the future.

        Args:
            elapsed: The present time by the clock of `WaitingMessage.deferred_at`, in seconds.
        """
        with self._transaction() as connection:
            connection.execute("UPDATE waiting SET deferred_at = ? WHERE deferred_at > ?", (elapsed, elapsed))

    def _wipe_now(self) -> None:
        with self._reading() as connection:
            if not self._waits(connection) and self._pages(connection) > _KEPT_PAGES:
                connection.execute("VACUUM")
            super()._wipe_now()

    @staticmethod
    def _waits(connection: sqlite3.Connection) -> bool:
        return connection.execute("SELECT 1 FROM waiting LIMIT 1").fetchone() is not None

    @staticmethod
    def _pages(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])
