"""The replay memory of a device: which messages were printed, and what is known about their senders; no texts."""

import contextlib
import functools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from idlib.storage import rules
from idlib.storage.database import STOP_THE_OTHER_RECEIVER, Database, repairing
from idlib.storage.file_errors import DamagedError, translating_errors
from idlib.storage.forgetting import Forgetting
from idlib.storage.log_copying import LogCopier
from idlib.storage.pages import Value
from idlib.storage.remembering import PROVEN, UNPROVEN, insert, place
from idlib.storage.salvage import Table
from idlib.storage.sender_rows import (
    DAY,
    DROPPED_UNTIL,
    FLOOR,
    LAST_SECOND,
    POOL,
    POOL_WATERMARK,
    SENDERS,
    SenderRows,
    facts_table,
    keep,
)
from idlib.storage.values import IDENTIFIER_BYTES, Printed, Remembered, ReplayEntry, Standing, Tidied

FILE_NAME: Final = "replay.sqlite3"
_VERSION: Final = 1
_LATEST_TIME: Final = "latest_time"
_BOOT: Final = "boot"
_FIRST_PORTION: Final = 500
_SMALLEST_PORTION: Final = 50
_LARGEST_PORTION: Final = 1000
_SHORT_SECONDS: Final = 0.003
_LONG_SECONDS: Final = 0.01
# The longer the log when it is copied, the more of its pages are newer versions of others, which need no copy.
_COPIED_PAGES: Final = 8192
# A commit copies the log only if it has become so long because `copy_log` was not called, or not often enough.
_LONGEST_LOG_PAGES: Final = 3 * _COPIED_PAGES
# About as many neighbouring entries are on one page.
_ENTRIES_OF_A_PAGE: Final = 8
# `remembering` describes the tables `bound` and `unbound`.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sender (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    zone TEXT NOT NULL,
    printed INTEGER NOT NULL,
    first_printed_at INTEGER NOT NULL,
    last_printed_at INTEGER NOT NULL,
    proven_at INTEGER,
    apart_since INTEGER,
    watermark INTEGER NOT NULL,
    key BLOB
);
CREATE INDEX IF NOT EXISTS sender_in_pool ON sender (last_printed_at) WHERE apart_since IS NULL;
CREATE INDEX IF NOT EXISTS sender_apart ON sender (last_printed_at) WHERE apart_since IS NOT NULL;
CREATE INDEX IF NOT EXISTS sender_by_zone ON sender (zone, last_printed_at) WHERE apart_since IS NOT NULL;
CREATE INDEX IF NOT EXISTS sender_with_watermark ON sender (watermark) WHERE watermark >= 0;
CREATE TABLE IF NOT EXISTS bound (
    slot INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    identifier BLOB NOT NULL,
    second INTEGER NOT NULL,
    PRIMARY KEY (slot, owner, identifier)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unbound (
    slot INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    identifier BLOB NOT NULL,
    PRIMARY KEY (slot, owner, identifier)
) WITHOUT ROWID;
"""


def _is_plausible_entry(row: tuple[Value, ...]) -> bool:
    slot, owner, identifier, *_ = row
    assert isinstance(slot, int)  # noqa: S101  # for mypy, here and below
    assert isinstance(owner, int)  # noqa: S101
    assert isinstance(identifier, bytes)  # noqa: S101
    return slot >= 0 and owner >= 0 and len(identifier) == IDENTIFIER_BYTES


def _is_plausible_bound_entry(row: tuple[Value, ...]) -> bool:
    slot, *_, second = row
    assert isinstance(slot, int)  # noqa: S101  # for mypy, here and below
    assert isinstance(second, int)  # noqa: S101
    return _is_plausible_entry(row) and 0 <= second < DAY and slot * DAY + second <= LAST_SECOND


_FACTS: Final = facts_table({_LATEST_TIME, FLOOR, POOL_WATERMARK, DROPPED_UNTIL})
_TABLES: Final = (
    _FACTS,
    SENDERS,
    Table("bound", ("integer", "integer", "blob", "integer"), _is_plausible_bound_entry),
    Table("unbound", ("integer", "integer", "blob"), _is_plausible_entry),
)


class ReplayMemory(Database):
    """The file, held by one process at a time: a `ReplayStore`.

    Args:
        directory: Where the file is; created if it is missing.

    Raises:
        StoreError: The directory or the file cannot be used, another process holds it, or a newer version wrote it.
    """

    _needs_last_write = True
    # The smallest possible. A page of 4096 bytes, with its header in the log, takes two blocks of the file system.
    _page_bytes = 512

    def __init__(self, directory: Path) -> None:
        self._copier = LogCopier()
        # About how many pages were written to the log since it was copied.
        self._pages_to_copy = 0
        # Copies of what the file holds, so that it need not be read again.
        self._facts: dict[str, str] = {}
        self._latest_issue = rules.NOTHING_FORGOTTEN
        # The latest time that was recorded before the file was opened; None until it is read.
        self._time_at_opening: int | None = None
        self._portion = _FIRST_PORTION
        self._forgetting: Forgetting | None = None
        self._kept_senders: SenderRows | None = None
        super().__init__(
            directory / FILE_NAME, _SCHEMA, _VERSION, _TABLES, keeps_texts=False, advice=STOP_THE_OTHER_RECEIVER
        )
        with self._closed_after_failure():
            self._latest_time = self._time_at_opening = self._read_latest_time()
            self._forget_last_write()
            self._boot = self.fact(_BOOT, "")

    @repairing
    def _read_latest_time(self) -> int:
        with self._judging_rows(), self._reading() as connection:
            # Read everything now, so that damage is found at the start.
            self._senders(connection)
            return int(self.fact(_LATEST_TIME, "0"))

    def _connect(self) -> None:
        super()._connect()
        with translating_errors(self._path):
            self._copier.open(self._path)

    def _disconnect(self) -> None:
        # The connection that is closed last copies the rest of the log.
        self._copier.close()
        super()._disconnect()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        super()._prepare(connection)
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG_PAGES}")

    @property
    def latest_time(self) -> int:
        """The recorded time, in seconds since the epoch; 0 if there is none."""
        return self._latest_time

    @property
    def boot(self) -> str:
        """The boot of the system in which the clock was last known to be set; empty if none was stored."""
        return self._boot

    @repairing
    def fact(self, name: str, default: str) -> str:
        """Return the value stored under a name; if there is none, store the default first.

        Args:
            name: The name of the fact.
            default: The value to store if there is none.
        """
        with self._transaction() as connection:
            connection.execute("INSERT INTO fact VALUES (?, ?) ON CONFLICT DO NOTHING", (name, default))
            row = connection.execute("SELECT name, value FROM fact WHERE name = ?", (name,)).fetchone()
            with self._judging_rows():
                _FACTS.check(row)
        self._facts[name] = row[1]
        return str(row[1])

    @repairing
    def get_fact(self, name: str) -> str | None:
        """Return the value stored under a name, or None if there is none.

        Args:
            name: The name of the fact.
        """
        with self._reading() as connection:
            row = connection.execute("SELECT name, value FROM fact WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            with self._judging_rows():
                _FACTS.check(row)
        return str(row[1])

    @repairing
    def set_fact(self, name: str, value: str) -> None:
        """Store a value under a name, replacing an earlier one; it is durable when this returns.

        Args:
            name: The name of the fact.
            value: The value.
        """
        with self._transaction() as connection:
            keep(connection, name, value)
        self._facts[name] = value

    def note_time(self, now: int) -> None:
        """Record a time, unless a later one is recorded already.

        Args:
            now: Seconds since the epoch.
        """
        if now > self._latest_time:
            self.set_fact(_LATEST_TIME, str(now))
            self._latest_time = now

    def reset_time(self, now: int) -> None:
        """Replace the recorded time, even if it is later.

        Args:
            now: Seconds since the epoch.
        """
        self.set_fact(_LATEST_TIME, str(now))
        self._latest_time = now

    def trust_clock_since(self, boot: str) -> None:
        """Store the boot of the system in which the clock is known to be set.

        Args:
            boot: The unique identifier of this boot.
        """
        if boot != self._boot:
            self.set_fact(_BOOT, boot)
            self._boot = boot

    @repairing
    def standing(self, name: str) -> Standing | None:
        """Return what is known about a name, or None if none of its messages is remembered.

        Args:
            name: The sender's name.
        """
        with self._reading() as connection, self._judging_rows():
            row = self._senders(connection).row(connection, name)
        return None if row is None else row.standing

    @repairing
    def verdict(self, entry: ReplayEntry) -> Remembered:
        """Return whether a message was printed before.

        Args:
            entry: What identifies the message; its signature has verified, and its age was accepted.
        """
        with self._reading() as connection, self._judging_rows():
            senders = self._senders(connection)
            if entry.issued_at is None:
                owners = [UNPROVEN, PROVEN]
                is_printed = _has(connection, "unbound", senders.unbound.slots, owners, entry.identifier)
                return Remembered.PRINTED if is_printed else Remembered.NEW
            row = senders.row(connection, entry.sender)
            standing = None if row is None else row.standing
            owners = [POOL] if rules.is_in_pool(standing, entry.issued_at) else []
            if row is not None and row.standing.apart_since is not None:
                owners.append(row.number)
            if _has(connection, "bound", senders.bound.slots, owners, entry.identifier):
                return Remembered.PRINTED
            return rules.verdict_without_entry(
                entry.issued_at, standing, senders.floor, senders.pool_watermark, senders.dropped_until
            )

    @repairing
    def remember(self, printed: Sequence[Printed], now: int) -> None:
        """Remember printed messages in one transaction, which is durable when this returns.

        Args:
            printed: The messages, in the order in which they were printed.
            now: Seconds since the epoch.
        """
        with self._changing() as (connection, senders):
            for message in printed:
                _remember(connection, senders, message, now)
            self._pages_to_copy += len(printed)
        issues = [message.entry.issued_at for message in printed if message.entry.issued_at is not None]
        self._latest_issue = max([self._latest_issue, *issues])

    @repairing
    def tidy(self, now: int) -> Tidied:
        """Forget one portion of what has expired or exceeds a limit; other threads wait at most 50 ms for it.

        Args:
            now: Seconds since the epoch, by a clock that is trusted.
        """
        with self._lock:
            begun = time.perf_counter()
            # The transaction need not be durable: if a power cut undoes it, the same entries are forgotten again.
            with self._reading() as connection:
                connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._changing() as (connection, senders):
                    if self._forgetting is None:
                        self._forgetting = Forgetting(senders)
                    done = self._forgetting.portion(connection, now, self._portion)
                    self._pages_to_copy += self._portion // _ENTRIES_OF_A_PAGE if done.more else 0
            finally:
                with contextlib.suppress(DamagedError), self._reading() as connection:
                    connection.execute("PRAGMA synchronous = FULL")
            seconds = time.perf_counter() - begun
            if seconds > _LONG_SECONDS:
                self._portion = max(_SMALLEST_PORTION, self._portion // 2)
            elif seconds < _SHORT_SECONDS:
                self._portion = min(_LARGEST_PORTION, self._portion * 3 // 2)
        if done.more:
            self._sync_log()
            self.copy_log()
        return done

    @repairing
    def copy_log(self) -> None:
        """Copy the log of recent changes into the file if it is long; other threads do not wait for it."""
        with self._lock:
            self._require_open()
            if self._pages_to_copy < _COPIED_PAGES:
                return
            self._pages_to_copy = 0
        with translating_errors(self._path):
            self._copier.copy()

    @repairing
    def raise_floor(self, issued_at: int) -> None:
        """Treat every message issued at or before a time as one that may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch; a time before the stored one changes nothing.
        """
        with self._changing() as (connection, senders):
            senders.raise_floor(connection, issued_at)

    @repairing
    def lower_floor(self, issued_at: int) -> bool:
        """Accept messages issued after a time, even if they may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch.

        Returns:
            Whether such messages were refused.
        """
        with self._changing() as (connection, senders):
            was_lowered = senders.lower_floor(connection, issued_at)
        # A later repair of the file must not raise it again.
        if self._last_write is not None:
            self._last_write = min(self._last_write, issued_at - rules.MAX_CLOCK_LEAD_SECONDS)
        if self._latest_issue is not None:
            self._latest_issue = min(self._latest_issue, issued_at)
        return was_lowered

    @contextlib.contextmanager
    def _changing(self) -> Iterator[tuple[sqlite3.Connection, SenderRows]]:
        with self._lock:
            try:
                with self._transaction() as connection, self._judging_rows():
                    yield connection, self._senders(connection)
            except BaseException:
                # The copies in memory may now be ahead of the file.
                self._kept_senders = None
                self._forgetting = None
                raise

    def _complete(self, connection: sqlite3.Connection) -> None:
        """Store all known facts, and the floor: messages whose entries are lost may have been printed."""
        recorded = _integer_fact(connection, _LATEST_TIME, 0)
        for name, value in self._facts.items():
            keep(connection, name, value)
        # Since the file was opened, only this process can have added to it.
        before = recorded if self._time_at_opening is None else self._time_at_opening
        issued_at = max(self._latest_issue, _latest_issue(connection))
        possible = rules.latest_possible_issue(issued_at, before, self._last_write, int(time.time()))
        floor = min(max(_integer_fact(connection, FLOOR, rules.NOTHING_FORGOTTEN), possible), LAST_SECOND)
        keep(connection, FLOOR, floor)
        self._kept_senders = None
        self._forgetting = None
        until = datetime.fromtimestamp(floor, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._loss = (
            f"unknown bound messages that were issued until {until} are refused as repeats, and unbound messages that"
            " were printed before may be printed again"
        )

    def _latest_possible_write(self) -> int | None:
        if self._last_write is None:
            return None
        # The last printed message may have come from a sender whose clock is ahead.
        return max(self._last_write, self._latest_issue - rules.MAX_CLOCK_LEAD_SECONDS)

    def _senders(self, connection: sqlite3.Connection) -> SenderRows:
        if self._kept_senders is None:
            self._kept_senders = SenderRows.read(connection)
        return self._kept_senders


def _remember(connection: sqlite3.Connection, senders: SenderRows, message: Printed, now: int) -> None:
    entry = message.entry
    row = senders.row(connection, entry.sender)
    kept = None if row is None else row.standing
    after = rules.after_printing(kept, message, now)
    is_apart = after.apart_since is not None
    if row is None:
        where = place(entry, senders.write(connection, None, after).number, now, is_apart=is_apart)
        is_new = insert(connection, where)
    else:
        where = place(entry, row.number, now, is_apart=is_apart)
        is_new = insert(connection, where)
        # A message that is remembered again, because the write is repeated, counts once.
        if is_new and rules.is_worth_writing(kept, after):
            senders.write(connection, row, after)
    if is_new:
        (senders.unbound if where.second is None else senders.bound).add(where.key)


def _integer_fact(connection: sqlite3.Connection, name: str, default: int) -> int:
    row = connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return default if row is None else int(row[0])


def _latest_issue(connection: sqlite3.Connection) -> int:
    """Return the latest `iat` of an entry, or -1 if there is none."""
    day, second = connection.execute(
        "SELECT slot, max(second) FROM bound WHERE slot = (SELECT max(slot) FROM bound)"
    ).fetchone()
    return rules.NOTHING_FORGOTTEN if day is None else int(day * DAY + second)


def _has(connection: sqlite3.Connection, table: str, slots: set[int], owners: Sequence[int], identifier: bytes) -> bool:
    statement = _statement(table, len(slots), len(owners))
    return connection.execute(statement, (*slots, *owners, identifier)).fetchone() is not None


@functools.cache
def _statement(table: str, slots: int, owners: int) -> str:
    return (
        f"SELECT 1 FROM {table} WHERE slot IN ({', '.join('?' * slots)})"  # noqa: S608  # of ours alone
        f" AND owner IN ({', '.join('?' * owners)}) AND identifier = ? LIMIT 1"
    )
