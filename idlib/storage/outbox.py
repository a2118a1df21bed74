"""Queued messages, on disk until the broker and DNS can be reached: any number of programs add them, one sends them.

The texts are stored unsealed: a message is sealed only when it is sent, so that it is fresh and encrypted to the
recipient's present key. Content with a type is stored as a blob: the type, a zero byte, and the content. The identifier
of a message is stored too, so that a second copy sent after a crash is refused as a repeat.
A text that was encrypted to an epoch key once must not be encrypted to an identity key later, so that is stored, too.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from idlib.errors import MalformedMediaTypeError, StoreError
from idlib.files import state_of
from idlib.media_types import media_type
from idlib.storage import epoch_notes
from idlib.storage.database import repairing
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.storage.pages import Value
from idlib.storage.queued import (
    MAX_DIVERGENCE_SECONDS,
    MAX_OCTETS,
    OVERHEAD_OCTETS,
    BootTime,
    OutgoingMessage,
    Waiting,
)
from idlib.storage.salvage import LOG, Table, beside, check_ascending, is_name, resolved

__all__ = [
    "FILE_NAME",
    "MAX_OCTETS",
    "BootTime",
    "NewOutgoingMessage",
    "Outbox",
    "OutgoingMessage",
    "Waiting",
    "is_to_be_opened",
    "state_of_files",
]

FILE_NAME: Final = "outbox.sqlite3"
# Counts the texts themselves, so that a damaged `octets` does not make the outbox full.
_COUNT: Final = f"SELECT count(*), coalesce(sum(length(CAST(text AS BLOB)) + {OVERHEAD_OCTETS}), 0) FROM outgoing"  # noqa: S608  # ours
# Earlier programs must not send from this file: they do not know what was encrypted to an epoch key, and they would
# treat content that has a type as damage.
_VERSION: Final = 3
# How old messages of this boot are, whatever the clock has shown since.
_QUEUED_IN: Final = """
CREATE TABLE IF NOT EXISTS queued_in (number INTEGER PRIMARY KEY, boot TEXT NOT NULL, up REAL NOT NULL);
CREATE TRIGGER IF NOT EXISTS outgoing_gone AFTER DELETE ON outgoing BEGIN
    DELETE FROM queued_in WHERE number = old.number;
END;
"""
# Version 0, of release 0.1.0, had neither the table `used` nor the indexes by time; version 1 had nothing about
# epochs, and version 2 only texts.
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient TEXT NOT NULL,
    identifier TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    octets INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    lifetime INTEGER
);
CREATE INDEX IF NOT EXISTS outgoing_by_recipient ON outgoing (recipient, number);
CREATE INDEX IF NOT EXISTS outgoing_by_time ON outgoing (queued_at);
CREATE INDEX IF NOT EXISTS outgoing_by_end ON outgoing (lifetime IS NULL, queued_at + coalesce(lifetime, 0));
CREATE TABLE IF NOT EXISTS used (messages INTEGER NOT NULL, octets INTEGER NOT NULL);
INSERT INTO used {_COUNT} WHERE NOT EXISTS (SELECT 1 FROM used);
CREATE TRIGGER IF NOT EXISTS outgoing_added AFTER INSERT ON outgoing BEGIN
    UPDATE used SET messages = messages + 1, octets = octets + new.octets + {OVERHEAD_OCTETS};
END;
CREATE TRIGGER IF NOT EXISTS outgoing_removed AFTER DELETE ON outgoing BEGIN
    UPDATE used SET messages = messages - 1, octets = octets - old.octets - {OVERHEAD_OCTETS};
END;
{_QUEUED_IN}
{epoch_notes.SCHEMA}
"""  # noqa: S608  # of ours alone
# Reads only the first message of each recipient, however many are queued. UNION removes duplicates, so that the query
# also ends on a damaged file, where SQLite can return to the same recipient.
_RECIPIENTS: Final = """
WITH RECURSIVE found (recipient) AS (
    SELECT min(recipient) FROM outgoing
    UNION
    SELECT (SELECT min(recipient) FROM outgoing WHERE recipient > found.recipient)
        FROM found WHERE recipient IS NOT NULL
)
SELECT recipient FROM found WHERE recipient IS NOT NULL
    ORDER BY (SELECT min(number) FROM outgoing WHERE outgoing.recipient = found.recipient)
"""
_COLUMNS: Final = "recipient, identifier, text, queued_at, lifetime"

# No media type contains it.
_END_OF_TYPE: Final = b"\0"

# After damage, skip numbers that lost messages may have had, so that no number is used twice.
_SKIPPED_NUMBERS: Final = 1_000_000


def _is_plausible(row: tuple[Value, ...]) -> bool:
    number, recipient, identifier, stored, octets, *_ = row
    assert isinstance(number, int)  # noqa: S101  # for mypy, here and below
    assert isinstance(stored, str | bytes)  # noqa: S101
    if isinstance(stored, bytes):
        _restored(stored)
    size = len(stored if isinstance(stored, bytes) else stored.encode())
    return number > 0 and is_name(recipient) and bool(identifier) and size == octets


def _stored(message: NewOutgoingMessage) -> str | bytes:
    if message.content_type is None:
        return message.content
    assert isinstance(message.content, bytes)  # noqa: S101  # the message has checked it
    return message.content_type.encode("ascii") + _END_OF_TYPE + message.content


def _restored(stored: str | bytes) -> tuple[str | bytes, str | None]:
    """Return the content and the content type of a stored message.

    Raises:
        ValueError: This program cannot have stored them.
    """
    if isinstance(stored, str):
        return stored, None
    written, end, content = stored.partition(_END_OF_TYPE)
    content_type = written.decode("ascii")
    try:
        is_ours = media_type(content_type) == content_type
    except MalformedMediaTypeError as error:
        raise ValueError(error.fact) from error
    if not end or not content or not is_ours:
        raise ValueError("not a content type and content")
    return content, content_type


def _is_plausible_total(row: tuple[Value, ...]) -> bool:
    messages, octets, since = row
    assert isinstance(messages, int)  # noqa: S101  # for mypy, here and below
    assert isinstance(octets, int)  # noqa: S101
    return octets >= messages * OVERHEAD_OCTETS >= 0 and (messages > 0) == (octets > 0) == (since is not None)


_TABLE: Final = Table(
    "outgoing", ("number", "text", "text", "text or blob", "integer", "integer", "integer or null"), _is_plausible
)
_TABLES: Final = (_TABLE, epoch_notes.MARKED, epoch_notes.SEALED)
# The last column, when the oldest message was queued, is not in the table itself.
_TOTAL: Final = Table("used", ("integer", "integer", "integer or null"), _is_plausible_total)


class Outbox(epoch_notes.EpochNotes):
    """The outbox, written and read by several processes at once.

    Args:
        directory: The directory of the file; created if it is missing.

    Raises:
        StoreError: The directory or the file cannot be used.
    """

    _may_be_empty = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / FILE_NAME, _SCHEMA, _VERSION, _TABLES, keeps_texts=True)
        # Acknowledged by the broker, but still in the outbox because it could not be written.
        self.acknowledged: set[int] = set()

    def hold_for_delivery(self) -> None:
        """Become the only process that sends from this outbox, until the file is closed; others may still add messages.

        Raises:
            StoreError: Another process sends from this outbox; the file has been closed.
        """
        self._hold("stop the other messaging_sender, or give this one a DATA_PATH of its own")
        # A process that was killed may have left removed texts in the log.
        self._is_wipe_due = True
        self._correct_total()

    @repairing
    def _correct_total(self) -> None:
        with self._transaction() as connection:
            _count_again(connection)

    @repairing
    def put(self, message: NewOutgoingMessage, at: BootTime | None = None) -> None:
        """Queue a message; it is durable when this returns.

        Args:
            message: The message; its content is not empty.
            at: When it was queued, by the boot clock; None if that is not known.

        Raises:
            StoreError: The outbox or the disk is full; nothing of the message is stored.
        """
        stored = _stored(message)
        octets = len(stored if isinstance(stored, bytes) else stored.encode())
        with self._transaction() as connection:
            if _knows(connection, message.identifier):
                return
            total = self._total(connection)[1]
            if total + octets + OVERHEAD_OCTETS > MAX_OCTETS:
                number, total = _count_again(connection)
            if total + octets + OVERHEAD_OCTETS > MAX_OCTETS:
                raise StoreError(
                    f"the outbox is full: {number} messages take {total} of its {MAX_OCTETS} bytes",
                    "send the message again once the broker and DNS can be reached",
                )
            row = connection.execute(
                f"INSERT INTO outgoing ({_COLUMNS}, octets) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608  # of ours alone
                (message.recipient, message.identifier, stored, message.queued_at, message.lifetime, octets),
            ).lastrowid
            if at is not None:
                connection.execute("INSERT OR REPLACE INTO queued_in VALUES (?, ?, ?)", (row, at.boot, at.up))
            if message.was_sealed_to_epoch:
                connection.execute("INSERT OR IGNORE INTO sealed_to_epoch VALUES (?)", (row,))

    @repairing
    def recipients(self) -> tuple[str, ...]:
        """Return the recipients of queued messages, the one whose message was queued first at the beginning."""
        with self._reading() as connection:
            rows = connection.execute(_RECIPIENTS).fetchall()
        with self._judging_rows():
            for (recipient,) in rows:
                if not is_name(recipient):
                    raise ValueError("a recipient is not a valid name")
        return tuple(recipient for (recipient,) in rows)

    def taken_by_others(self) -> frozenset[str]:
        """Return no recipient: `hold_for_delivery` holds them all."""
        return frozenset()

    def take(self, recipient: str) -> bool:  # noqa: ARG002  # required by `DeliveryStore`
        """Return True: `hold_for_delivery` holds every recipient.

        Args:
            recipient: The name.
        """
        return True

    def check_taken(self, recipient: str) -> None:
        """Do nothing: no other process can send before the outbox is closed.

        Args:
            recipient: The name.
        """

    def release(self, recipient: str) -> None:
        """Do nothing: no other process can send before the outbox is closed.

        Args:
            recipient: The name.
        """

    @repairing
    def next_to(self, recipient: str, after: int) -> OutgoingMessage | None:
        """Return the next message to a recipient, or None if there is none.

        Args:
            recipient: The recipient's name.
            after: The number of the message before it; 0 for the first message.
        """
        with self._reading() as connection:
            row = connection.execute(
                "SELECT number, recipient, identifier, text, octets, queued_at, lifetime,"
                " EXISTS (SELECT 1 FROM sealed_to_epoch WHERE sealed_to_epoch.number = outgoing.number) FROM outgoing"
                " WHERE recipient = ? AND number > ? ORDER BY number LIMIT 1",
                (recipient, after),
            ).fetchone()
        if row is None:
            return None
        with self._judging_rows():
            _TABLE.check(row[:-1])
            check_ascending([row[0]], after)
        number, recipient, identifier, stored, _octets, queued_at, lifetime, was_sealed_to_epoch = row
        content, content_type = _restored(stored)
        return OutgoingMessage(
            recipient,
            identifier,
            content,
            queued_at,
            lifetime,
            number,
            was_sealed_to_epoch=bool(was_sealed_to_epoch),
            content_type=content_type,
        )

    @repairing
    def waiting(self) -> Waiting:
        """Return how many messages are queued, and since when."""
        with self._reading() as connection:
            number, _octets, since = self._total(connection)
        return Waiting(number, since)

    @repairing
    def size(self) -> int:
        """Return how many bytes the messages take, as counted for the limit."""
        with self._reading() as connection:
            _number, octets, _since = self._total(connection)
        return octets

    @repairing
    def remove(self, number: int) -> None:
        """Remove a message; the removal is durable when this returns.

        Args:
            number: Its number in the outbox.
        """
        with self._transaction() as connection:
            connection.execute("DELETE FROM outgoing WHERE number = ?", (number,))
            self._is_wipe_due = True
        self._try_to_wipe()

    @repairing
    def forget_expired(self, now: int, usual: int, longest: int) -> Sequence[tuple[str, str]]:
        """Remove expired messages, and return the identifier and recipient of each.

        Args:
            now: Seconds since the epoch.
            usual: The lifetime in seconds of a message that has none of its own.
            longest: The longest lifetime in seconds: how long the recipient remembers what it has printed.
        """
        usual = min(usual, longest)
        expired = (
            "(lifetime IS NULL) = 1 AND queued_at + coalesce(lifetime, 0) <= ?",
            "(lifetime IS NULL) = 0 AND queued_at + coalesce(lifetime, 0) <= ?",
            "queued_at <= ?",
        )
        values = (now - usual, now, now - longest)
        # First check by the indexes whether any has expired, because this is called several times a second.
        found_any = " OR ".join(f"EXISTS (SELECT 1 FROM outgoing WHERE {one})" for one in expired)  # noqa: S608
        with self._reading() as connection:
            found = connection.execute(f"SELECT {found_any}", values).fetchone()[0]
        rows: list[tuple[str, str]] = []
        if found:
            with self._transaction() as connection:
                deleted = connection.execute(
                    f"DELETE FROM outgoing WHERE {' OR '.join(expired)}"  # noqa: S608
                    " RETURNING number, recipient, identifier, queued_at, lifetime",
                    values,
                ).fetchall()
                with self._judging_rows():
                    rows = [_judged_heading(*row) for row in deleted]
                self._is_wipe_due = True
        self._try_to_wipe()
        return rows

    @repairing
    def correct_times(self, earliest: int, now: int, latest: int | None = None) -> None:
        """Set the queuing time to now for messages whose queuing time is impossible, because the clock was wrong.

        Args:
            earliest: The earliest possible queuing time, in seconds since the epoch.
            now: Seconds since the epoch.
            latest: The latest possible queuing time, in seconds since the epoch; None for now.
        """
        wrong = "queued_at < ? OR queued_at > ?"
        bounds = (earliest, now if latest is None else latest)
        with self._reading() as connection:
            found = connection.execute(f"SELECT 1 FROM outgoing WHERE {wrong} LIMIT 1", bounds).fetchone()  # noqa: S608
        if found is not None:
            with self._transaction() as connection:
                connection.execute(f"UPDATE outgoing SET queued_at = ? WHERE {wrong}", (now, *bounds))  # noqa: S608

    @repairing
    def follow_clock(self, now: int, at: BootTime) -> None:
        """Correct the queuing times of messages of this boot, if the clock has been set since they were queued.

        Args:
            now: Seconds since the epoch.
            at: The same time by the boot clock.
        """
        # The time of the boot, in seconds since the epoch.
        offset = now - at.up
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outgoing SET queued_at = CAST(? + queued_in.up AS INTEGER) FROM queued_in"
                " WHERE queued_in.number = outgoing.number AND queued_in.boot = ?"
                " AND abs(? + queued_in.up - queued_at) > ?",
                (offset, at.boot, offset, MAX_DIVERGENCE_SECONDS),
            )

    def _total(self, connection: sqlite3.Connection) -> tuple[int, int, int | None]:
        """Return how many messages are queued, how many bytes they take, and when the oldest was queued."""
        row = connection.execute("SELECT messages, octets, (SELECT min(queued_at) FROM outgoing) FROM used").fetchone()
        with self._judging_rows():
            if row is None:
                raise ValueError("the table `used` is empty")
            _TOTAL.check(row)
        messages, octets, since = row
        return messages, octets, since

    def _complete(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM sqlite_sequence")
        connection.execute(
            "INSERT INTO sqlite_sequence SELECT 'outgoing', coalesce(max(number), 0) + ? FROM outgoing",
            (_SKIPPED_NUMBERS,),
        )


def is_to_be_opened(directory: Path) -> bool:
    """Return whether there is an outbox; True if that cannot be found out without opening it.

    Args:
        directory: The directory of the outbox, if there is one.
    """
    try:
        (directory / FILE_NAME).stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True


def state_of_files(directory: Path) -> tuple[object, ...]:
    """Return a value that changes whenever a message is queued; cheap enough to call every second.

    Args:
        directory: The directory of the outbox, if there is one.
    """
    path = resolved(directory / FILE_NAME)
    return (state_of(path), state_of(beside(path, LOG)))


def _count_again(connection: sqlite3.Connection) -> tuple[int, int]:
    """Correct the stored totals, which damage can make wrong, and return them: messages and bytes."""
    messages, octets = connection.execute(_COUNT).fetchone()
    if connection.execute("SELECT messages, octets FROM used").fetchall() != [(messages, octets)]:
        connection.execute("DELETE FROM used")
        connection.execute("INSERT INTO used VALUES (?, ?)", (messages, octets))
    return messages, octets


def _judged_heading(
    number: int, recipient: str, identifier: str, queued_at: int, lifetime: int | None
) -> tuple[str, str]:
    """Check a row without its text, which is no longer needed, and return its identifier and recipient.

    Raises:
        ValueError: This program cannot have written the row.
    """
    _TABLE.check((number, recipient, identifier, "", 0, queued_at, lifetime))
    return identifier, recipient


def _knows(connection: sqlite3.Connection, identifier: str) -> bool:
    row = connection.execute("SELECT 1 FROM outgoing WHERE identifier = ?", (identifier,)).fetchone()
    return row is not None
