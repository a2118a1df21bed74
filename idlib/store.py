"""One SQLite file for what must outlive a restart: the session's client id, replay identifiers, messages that wait.

Written in groups, each durable when the call returns; after a power cut the file holds whole groups only.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from idlib.storage.database import Database

FILE_NAME: Final = "messages.sqlite3"
_LATEST_FORGOTTEN_ISSUE: Final = "latest_forgotten_issue"
_LATEST_TIME: Final = "latest_time"
_BOOT: Final = "boot"
_FORGOTTEN_AT_ONCE: Final = 10_000
# Of the largest messages a megabyte.
_READ_AT_ONCE: Final = 16
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sender (name TEXT PRIMARY KEY, entries INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replay (
    identifier BLOB PRIMARY KEY,
    sender TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replay_by_expiry ON replay (expires_at);
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    signed TEXT NOT NULL,
    digest BLOB NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting_by_sender ON waiting (sender);
"""


@dataclass(frozen=True, slots=True)
class ReplayEntry:
    """One message that has been printed.

    Args:
        identifier: 16 octets that no other message shares.
        sender: The name whose key verified.
        issued_at: When it was issued, in seconds since the epoch; 0 where it does not say.
        expires_at: Until when it has to be known, likewise.
    """

    identifier: bytes
    sender: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class NewWaitingMessage:
    """One message that is to wait for DNS.

    Args:
        sender: The name in its `x5u`.
        signed: The JWS.
        digest: What tells it from others where it is unbound.
        received_at: In seconds since the epoch.
    """

    sender: str
    signed: str
    digest: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class WaitingMessage(NewWaitingMessage):
    """One message that waits for DNS.

    Args:
        sender: The name in its `x5u`.
        signed: The JWS.
        digest: What tells it from others where it is unbound.
        received_at: In seconds since the epoch.
        number: The store's number of it.
    """

    number: int


class Store(Database):
    """The file, held by one process at a time and used by any number of its threads.

    Args:
        directory: Where it lies; made where it is missing.

    Raises:
        StoreError: The directory or the file cannot be used, or another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / FILE_NAME, _SCHEMA)
        self._hold("stop the other receiver, or give this one a DATA_PATH of its own")
        with self._reading() as connection:
            row = connection.execute("SELECT coalesce(sum(entries), 0) FROM sender").fetchone()
        self._number_printed = int(row[0])
        self._latest_forgotten_issue = int(self.fact(_LATEST_FORGOTTEN_ISSUE, "-1"))
        self._latest_time = int(self.fact(_LATEST_TIME, "0"))
        self._boot = self.fact(_BOOT, "")

    def fact(self, name: str, value: str) -> str:
        """Return the value that is kept under a name, after keeping the given one where there is none yet.

        Args:
            name: What it is.
            value: What to keep the first time.
        """
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO fact VALUES (?, ?)", (name, value))
            return str(connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()[0])

    def has_printed(self, identifier: bytes) -> bool:
        """Tell whether a message with this replay identifier has been printed.

        Args:
            identifier: 16 octets.
        """
        with self._reading() as connection:
            found = connection.execute("SELECT 1 FROM replay WHERE identifier = ?", (identifier,)).fetchone()
        return found is not None

    def number_printed_of(self, sender: str) -> int:
        """Return how many printed messages of a sender are known.

        Args:
            sender: The name whose key verified.
        """
        with self._reading() as connection:
            row = connection.execute("SELECT entries FROM sender WHERE name = ?", (sender,)).fetchone()
        return 0 if row is None else int(row[0])

    @property
    def number_printed(self) -> int:
        """How many printed messages are known."""
        return self._number_printed

    @property
    def latest_forgotten_issue(self) -> int:
        """When the latest of the printed and forgotten messages was issued, in seconds since the epoch."""
        return self._latest_forgotten_issue

    def finish(self, printed: Sequence[ReplayEntry], no_longer_waiting: Iterable[int]) -> None:
        """Keep, in one durable group, which messages are printed, and forget those that waited.

        Args:
            printed: Their replay entries, none of them known yet.
            no_longer_waiting: Numbers of messages that waited and are printed or refused.
        """
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO replay VALUES (?, ?, ?, ?)",
                ((one.identifier, one.sender, one.issued_at, one.expires_at) for one in printed),
            )
            connection.executemany(
                "INSERT INTO sender VALUES (?, ?) ON CONFLICT DO UPDATE SET entries = entries + excluded.entries",
                Counter(one.sender for one in printed).items(),
            )
            connection.executemany("DELETE FROM waiting WHERE number = ?", ((number,) for number in no_longer_waiting))
        self._number_printed += len(printed)

    def forget_printed(self, now: int) -> None:
        """Forget messages that need not be known any more, a bounded number of them.

        None of a sender of whom others wait: they are waited for longer because it is known.

        Args:
            now: Seconds since the epoch.
        """
        with self._transaction() as connection:
            rows = connection.execute(
                "DELETE FROM replay WHERE identifier IN (SELECT identifier FROM replay"
                " WHERE expires_at < ? AND sender NOT IN (SELECT sender FROM waiting) LIMIT ?)"
                " RETURNING sender, issued_at",
                (now, _FORGOTTEN_AT_ONCE),
            ).fetchall()
            if not rows:
                return
            latest = max(self._latest_forgotten_issue, *(issued_at for _, issued_at in rows))
            connection.executemany(
                "UPDATE sender SET entries = entries - ? WHERE name = ?",
                ((number, sender) for sender, number in Counter(sender for sender, _ in rows).items()),
            )
            connection.execute("DELETE FROM sender WHERE entries = 0")
            connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_LATEST_FORGOTTEN_ISSUE, str(latest)))
        self._number_printed -= len(rows)
        self._latest_forgotten_issue = latest

    @property
    def latest_time(self) -> int:
        """The latest time that was noted, in seconds since the epoch."""
        return self._latest_time

    def note_time(self, now: int) -> None:
        """Keep a time, unless a later one is kept.

        Args:
            now: Seconds since the epoch.
        """
        if now <= self._latest_time:
            return
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_LATEST_TIME, str(now)))
        self._latest_time = now

    @property
    def boot(self) -> str:
        """The start of the system since which the clock is believed; empty where none has been kept."""
        return self._boot

    def believe_clock_since(self, boot: str) -> None:
        """Keep since which start of the system the clock is believed.

        Args:
            boot: What tells it from every other start.
        """
        if boot == self._boot:
            return
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (_BOOT, boot))
        self._boot = boot

    def keep_waiting(self, messages: Iterable[NewWaitingMessage]) -> None:
        """Keep messages that wait for DNS; they are durable when this returns.

        Args:
            messages: In the order of their arrival.
        """
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO waiting (sender, signed, digest, received_at) VALUES (?, ?, ?, ?)",
                ((one.sender, one.signed, one.digest, one.received_at) for one in messages),
            )

    def waiting_senders(self) -> tuple[str, ...]:
        """Return the name of every sender of whom a message waits."""
        with self._reading() as connection:
            return tuple(row[0] for row in connection.execute("SELECT DISTINCT sender FROM waiting").fetchall())

    def is_waiting(self, sender: str) -> bool:
        """Tell whether a message of a sender waits.

        Args:
            sender: The name in its `x5u`.
        """
        with self._reading() as connection:
            found = connection.execute("SELECT 1 FROM waiting WHERE sender = ? LIMIT 1", (sender,)).fetchone()
        return found is not None

    def waiting_of(self, sender: str, after: int = 0) -> tuple[WaitingMessage, ...]:
        """Return the next messages of a sender that wait, the oldest first; a bounded number of them.

        Args:
            sender: The name in their `x5u`.
            after: Behind which number; 0 for the first ones.
        """
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT sender, signed, digest, received_at, number FROM waiting"
                " WHERE sender = ? AND number > ? ORDER BY number LIMIT ?",
                (sender, after, _READ_AT_ONCE),
            ).fetchall()
        return tuple(WaitingMessage(*row) for row in rows)

    def number_waiting(self) -> int:
        """Return how many messages wait."""
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM waiting").fetchone()[0])

    def most_waiting(self, last: str) -> tuple[str, int]:
        """Return the sender of whom most messages wait, and their number.

        Args:
            last: Who is named first where several have as many.
        """
        with self._reading() as connection:
            row = connection.execute(
                "SELECT sender, count(*) FROM waiting GROUP BY sender ORDER BY count(*) DESC, sender = ? DESC LIMIT 1",
                (last,),
            ).fetchone()
        return row[0], row[1]

    def forget_newest_waiting(self, sender: str, places: int) -> int:
        """Forget those messages of a sender that came last and find no place, and return how many they were.

        Args:
            sender: The name in their `x5u`.
            places: How many of its messages may wait.
        """
        with self._transaction() as connection:
            cursor = connection.execute(
                "DELETE FROM waiting WHERE number IN"
                " (SELECT number FROM waiting WHERE sender = ? ORDER BY received_at, number LIMIT -1 OFFSET ?)",
                (sender, places),
            )
            return cursor.rowcount
