"""The messages that wait for DNS, in a file of their own: once one is removed, nothing of its text is left in it."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from idlib.errors import StoreError
from idlib.storage.database import STOP_THE_OTHER_RECEIVER, Database, repairing
from idlib.storage.pages import Value
from idlib.storage.salvage import Table, check_ascending, is_name
from idlib.storage.values import IDENTIFIER_BYTES, WaitingEntry, WaitingMessage

FILE_NAME: Final = "waiting.sqlite3"
_VERSION: Final = 1
_READ_AT_ONCE: Final = 500
# Fewer free pages than this are kept for the next messages.
_KEPT_PAGES: Final = 64
# The text comes last and as bytes, so that SQLite can tell its length and read the other columns without reading it.
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
"""
# Those of a `WaitingHeader`, under the same names.
_HEADER: Final = (
    "number",
    "sender",
    "digest",
    "identifier",
    "issued_at",
    "received_at",
    "deferred_at",
    "is_asked_again",
    "is_reserved",
)
_COLUMNS: Final = ", ".join(_HEADER)


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


class WaitingMessages(Database):
    """The file, held by one process at a time: a `WaitingStore`.

    Args:
        directory: Where the file is; created if it is missing.

    Raises:
        StoreError: The directory or the file cannot be used, another process holds it, or a newer version wrote it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory / FILE_NAME, _SCHEMA, _VERSION, (_TABLE,), keeps_texts=True, advice=STOP_THE_OTHER_RECEIVER
        )
        # A process that was killed may have left removed texts in the log.
        self._is_wipe_due = True
        with self._closed_after_failure():
            self.wipe()

    def close(self) -> None:
        """Close the file, with no removed text left in it, so that another process may hold it."""
        with self._lock:
            if self._is_wipe_due:
                # The next start does it.
                with contextlib.suppress(StoreError):
                    self._wipe_now()
            super().close()

    @repairing
    def last_number(self) -> int:
        """Return the highest number of a message that waits, or 0."""
        with self._reading() as connection:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM waiting").fetchone()[0])

    def index(self) -> Iterator[WaitingEntry]:
        """Yield every waiting message without its text, ordered by number, holding few of them in memory."""
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
                # The text is looked at when it is read.
                _TABLE.check((*header, b""))
            return [WaitingEntry(**_header(row), size=row[-1]) for row in rows]

    @repairing
    def read(self, numbers: Sequence[int]) -> tuple[WaitingMessage, ...]:
        """Return the waiting messages with these numbers, in the order of the numbers given; unknown ones are left out.

        Args:
            numbers: Their numbers.
        """
        found = []
        with self._reading() as connection, self._judging_rows():
            for wanted in numbers:
                row = connection.execute(
                    f"SELECT {_COLUMNS}, signed FROM waiting WHERE number = ?",  # noqa: S608  # of ours alone
                    (wanted,),
                ).fetchone()
                if row is not None:
                    _TABLE.check(row)
                    found.append(WaitingMessage(**_header(row), signed=row[-1].decode()))
        return tuple(found)

    @repairing
    def change(self, added: Sequence[WaitingMessage], removed: Iterable[int]) -> None:
        """Change what waits as one group, which is durable when this returns.

        Args:
            added: Messages with numbers that are not in use, so that a group that failed can be tried again.
            removed: Numbers of messages that wait no longer; unknown ones are ignored.
        """
        with self._lock:
            with self._transaction() as connection:
                gone = connection.executemany("DELETE FROM waiting WHERE number = ?", ((number,) for number in removed))
                connection.executemany(
                    "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (_row(message) for message in added),
                )
            if gone.rowcount > 0:
                self._is_wipe_due = True
            self._try_to_wipe()

    @repairing
    def limit_deferral(self, elapsed: float) -> None:
        """Let messages that began to wait later than now have begun now.

        Args:
            elapsed: For how many seconds the system has run, by the clock of `WaitingMessage.deferred_at`.
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


def _header(row: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of a `WaitingHeader`; what stands behind them in the row is left out."""
    header = dict(zip(_HEADER, row, strict=False))
    return {**header, "is_asked_again": bool(header["is_asked_again"]), "is_reserved": bool(header["is_reserved"])}


def _row(message: WaitingMessage) -> tuple[object, ...]:
    return (*(getattr(message, name) for name in _HEADER), message.signed.encode())
