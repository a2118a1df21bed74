"""Moves the contents of the one file of release 0.1.0 into the present files, once.

A crash at any point loses and duplicates nothing: each step can be repeated, and the old file is removed only after the
new ones are durable.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import make_durable
from idlib.storage import rules
from idlib.storage.database import STOP_THE_OTHER_RECEIVER, Database, repairing
from idlib.storage.file_errors import describing_errors
from idlib.storage.lock_file import END as LOCK_FILE_END
from idlib.storage.pages import Value
from idlib.storage.replay import ReplayMemory
from idlib.storage.salvage import SIDE_FILES, Table, beside, check_ascending, is_name, resolved
from idlib.storage.sender_rows import DAY, POOL, WEEK, facts_table
from idlib.storage.values import IDENTIFIER_BYTES, ReplayEntry, Standing, WaitingMessage
from idlib.storage.waiting import WaitingMessages

OLD_FILE_NAME: Final = "messages.sqlite3"
_OLD_VERSION: Final = 1
# If the old release was killed at its first start, the file may have only some of these tables.
_OLD_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sender (name TEXT PRIMARY KEY, entries INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replay (
    identifier BLOB PRIMARY KEY,
    sender TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    signed TEXT NOT NULL,
    digest BLOB NOT NULL,
    received_at REAL NOT NULL
);
"""
_LATEST_TIME: Final = "latest_time"
_FORGOTTEN_UNTIL: Final = "latest_forgotten_issue"
_ENTRIES_AT_ONCE: Final = 5000
_MESSAGES_AT_ONCE: Final = 16


def _is_plausible_entry(row: tuple[Value, ...]) -> bool:
    return isinstance(row[0], bytes) and len(row[0]) == IDENTIFIER_BYTES and is_name(row[1])


_OLD_FACTS: Final = facts_table({_LATEST_TIME, _FORGOTTEN_UNTIL})
_OLD_TABLES: Final = (
    _OLD_FACTS,
    Table("sender", ("text", "integer"), lambda row: is_name(row[0])),
    Table("replay", ("blob", "text", "integer", "integer"), _is_plausible_entry),
    Table("waiting", ("number", "text", "text", "blob", "real"), lambda row: is_name(row[1])),
)


def migrate(directory: Path, now: int, identify: Callable[[str, str, bytes], ReplayEntry]) -> bool:
    """Move the contents of the file of release 0.1.0 into the present files; return whether there was such a file.

    Call this before the new files are opened.

    Args:
        directory: The directory of the files.
        now: Seconds since the epoch, by a clock that may be wrong.
        identify: Returns what identifies a deferred message, from its sender, JWS and digest; raises nothing.

    Raises:
        StoreError: A file cannot be read or written, or another process holds it; the old file is unchanged.
    """
    old = directory / OLD_FILE_NAME
    with describing_errors(old):
        is_there = old.exists()
    if not is_there:
        # A crash may have left its side files after the file was removed.
        _remove(directory)
        return False
    with _OldStore(old, now) as source, _NewMemory(directory) as memory, WaitingMessages(directory) as waiting:
        facts = source.facts()
        now = _credible_time(now, facts)
        memory.take_facts(facts)
        known = memory.take_names(source.frequent_senders(rules.PROVEN_MESSAGES, rules.MAX_PROVEN_NAMES), now)
        for rows in source.printed():
            memory.take_printed(rows, known)
        memory.judge_names(known, now)
        _copy_waiting(source, waiting, identify)
    with describing_errors(old):
        make_durable(directory)
    _remove(directory)
    return True


def _credible_time(now: int, facts: Mapping[str, str]) -> int:
    """Return the time, or the recorded time if that one cannot be right; it becomes `apart_since` of the names."""
    latest = int(facts.get(_LATEST_TIME, "0"))
    return now if not latest or latest <= now <= latest + rules.REPLAY_SECONDS else latest


class _OldStore(Database):
    """The file of release 0.1.0, held so that no receiver of that release can run."""

    # The old release may have been killed at its first start.
    _may_be_empty = True

    _needs_last_write = True

    def __init__(self, path: Path, now: int) -> None:
        self._now = now
        super().__init__(path, _OLD_SCHEMA, _OLD_VERSION, _OLD_TABLES, keeps_texts=True, advice=STOP_THE_OTHER_RECEIVER)
        # Only a repair writes to this file.
        self._forget_last_write()

    @repairing
    def facts(self) -> dict[str, str]:
        """Return every fact."""
        with self._reading() as connection:
            rows = connection.execute("SELECT name, value FROM fact").fetchall()
            with self._judging_rows():
                for row in rows:
                    _OLD_FACTS.check(row)
        return dict(rows)

    @repairing
    def frequent_senders(self, least: int, most: int) -> tuple[str, ...]:
        """Return the names that have had the most messages printed.

        Args:
            least: The minimum number of messages.
            most: The maximum number of names.
        """
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT name FROM sender WHERE entries >= ? ORDER BY entries DESC, name LIMIT ?", (least, most)
            ).fetchall()
        return tuple(name for (name,) in rows)

    def printed(self) -> Iterator[list[tuple[bytes, str, int, int]]]:
        """Yield identifier, sender, `iat` (0 if unbound) and expiry of each printed message, in portions."""
        last = b""
        while rows := self._printed_after(last):
            yield rows
            last = rows[-1][0]

    @repairing
    def _printed_after(self, identifier: bytes) -> list[tuple[bytes, str, int, int]]:
        with self._reading() as connection, self._judging_rows():
            rows = connection.execute(
                "SELECT identifier, sender, issued_at, expires_at FROM replay"
                " WHERE identifier > ? ORDER BY identifier LIMIT ?",
                (identifier, _ENTRIES_AT_ONCE),
            ).fetchall()
            check_ascending((row[0] for row in rows), identifier)
        return rows

    def waiting(self) -> Iterator[list[tuple[int, str, str, bytes, float]]]:
        """Yield number, sender, JWS, digest and time of arrival of each deferred message, in portions."""
        last = 0
        while rows := self._waiting_after(last):
            yield rows
            last = rows[-1][0]

    @repairing
    def _waiting_after(self, number: int) -> list[tuple[int, str, str, bytes, float]]:
        with self._reading() as connection, self._judging_rows():
            rows = connection.execute(
                "SELECT number, sender, signed, digest, received_at FROM waiting"
                " WHERE number > ? ORDER BY number LIMIT ?",
                (number, _MESSAGES_AT_ONCE),
            ).fetchall()
            check_ascending((row[0] for row in rows), number)
        return rows

    def _complete(self, connection: sqlite3.Connection) -> None:
        facts = dict(connection.execute("SELECT name, value FROM fact"))
        (issued_at,) = connection.execute("SELECT coalesce(max(issued_at), 0) FROM replay").fetchone()
        recorded = int(facts.get("latest_time", 0))
        possible = rules.latest_possible_issue(issued_at, recorded, self._last_write, self._now)
        until = max(int(facts.get(_FORGOTTEN_UNTIL, 0)), possible)
        connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_FORGOTTEN_UNTIL, str(until)))


@dataclass(slots=True)
class _Known:
    """What the old entries of a name show about it.

    Args:
        number: The number of the row of the name.
        entries: How many of its messages are remembered.
        first: The approximate time at which the first was printed, in seconds since the epoch.
        last: The approximate time at which the last was printed.
    """

    number: int
    entries: int = 0
    first: int = 0
    last: int = 0

    def add(self, printed_at: int) -> None:
        """Add a message.

        Args:
            printed_at: The approximate time at which it was printed, in seconds since the epoch.
        """
        self.first = min(self.first, printed_at) if self.entries else printed_at
        self.last = max(self.last, printed_at)
        self.entries += 1


class _NewMemory(ReplayMemory):
    """The present replay memory, to which an old file can be copied. Every method may be called again."""

    def take_facts(self, facts: Mapping[str, str]) -> None:
        """Store facts, except those that are stored already.

        Args:
            facts: The facts, by name.
        """
        for name, value in facts.items():
            if name == _LATEST_TIME:
                self.note_time(int(value))
            elif name == _FORGOTTEN_UNTIL:
                self.raise_floor(int(value))
            elif name != "boot":
                self.fact(name, value)
            elif not self.boot:
                self.trust_clock_since(value)

    def take_names(self, names: Iterable[str], now: int) -> dict[str, _Known]:
        """Give each name a row, so that its messages are remembered separately.

        Args:
            names: The names.
            now: Seconds since the epoch.
        """
        known = {}
        with self._changing() as (connection, senders):
            for name in names:
                row = senders.row(connection, name)
                if row is None:
                    # The pool has none of its messages.
                    new = Standing(name, "", 0, 0, 0, None, 0, rules.NOTHING_FORGOTTEN, None)
                    row = senders.write(connection, None, new)
                elif row.standing.apart_since is None:
                    row = senders.write(connection, row, replace(row.standing, apart_since=now))
                known[name] = _Known(row.number)
        return known

    def take_printed(self, rows: Iterable[tuple[bytes, str, int, int]], known: Mapping[str, _Known]) -> None:
        """Remember printed messages.

        Args:
            rows: For each message the identifier, the sender, the `iat` (0 if unbound) and when the entry expires.
            known: The names that have a row; the messages of all other names go into the pool.
        """
        with self._changing() as (connection, senders):
            for identifier, sender, issued_at, expires_at in rows:
                self._latest_issue = max(self._latest_issue, issued_at)
                name = known.get(sender)
                if issued_at:
                    day, second = divmod(issued_at, DAY)
                    tally, printed_at = senders.bound, issued_at
                    key = (day, name.number if name else POOL, identifier)
                    cursor = connection.execute("INSERT OR IGNORE INTO bound VALUES (?, ?, ?, ?)", (*key, second))
                    if name is None:
                        senders.raise_dropped_until(connection, issued_at)
                else:
                    tally, printed_at = senders.unbound, expires_at - rules.UNBOUND_MEMORY_SECONDS
                    key = (printed_at // WEEK, int(name is not None), identifier)
                    cursor = connection.execute("INSERT OR IGNORE INTO unbound VALUES (?, ?, ?)", key)
                if cursor.rowcount:
                    tally.add(key)
                if name is not None:
                    name.add(printed_at)

    def judge_names(self, known: Mapping[str, _Known], now: int) -> None:
        """Store what the old entries of each name show about it.

        Args:
            known: The names.
            now: Seconds since the epoch.
        """
        with self._changing() as (connection, senders):
            for name, one in known.items():
                row = senders.row(connection, name)
                if row is None or not one.entries:
                    continue
                before = row.standing
                first = min(before.first_printed_at, one.first) if before.printed else one.first
                is_proven = one.entries >= rules.PROVEN_MESSAGES and now - first > rules.PROVEN_SECONDS
                after = replace(
                    before,
                    printed=max(before.printed, one.entries),
                    first_printed_at=first,
                    last_printed_at=max(before.last_printed_at, one.last),
                    proven_at=now if before.proven_at is None and is_proven else before.proven_at,
                )
                senders.write(connection, row, after)


def _copy_waiting(
    source: _OldStore, waiting: WaitingMessages, identify: Callable[[str, str, bytes], ReplayEntry]
) -> None:
    copied = {one.digest for one in waiting.index()}
    number = waiting.last_number()
    for rows in source.waiting():
        messages = []
        for _number, sender, signed, digest, received_at in rows:
            if digest in copied:
                continue
            copied.add(digest)
            number += 1
            entry = identify(sender, signed, digest)
            messages.append(
                WaitingMessage(
                    number=number,
                    sender=sender,
                    signed=signed,
                    digest=digest,
                    identifier=entry.identifier,
                    issued_at=entry.issued_at,
                    received_at=received_at,
                    deferred_at=0.0,
                    is_asked_again=False,
                    is_reserved=False,
                )
            )
        waiting.change(messages, ())


def _remove(directory: Path) -> None:
    old = directory / OLD_FILE_NAME
    file = resolved(old)
    paths = [old, *(beside(file, end) for end in ("", *SIDE_FILES, LOCK_FILE_END))]
    try:
        # On a file system that is mounted read-only, removing fails even if there is nothing to remove.
        present = [path for path in paths if path.exists()]
        for path in present:
            path.unlink(missing_ok=True)
        if present:
            make_durable(directory)
            make_durable(file.parent)
    except OSError as error:
        raise StoreError(
            f"{quoted(old)} cannot be removed: {error.strerror}",
            "set DATA_PATH to a directory that can be written",
        ) from error
