"""Queued messages in the database: any number of programs on any number of machines add them.

As in the SQLite outbox, the texts are stored unsealed, with the identifier of each message and whether it was encrypted
to an epoch key. The database's clock says when a message was queued, because the clocks of several machines differ.
"""

from typing import Final, Self

from idlib.errors import DatabaseError, StoreError
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage import epoch_notes
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.storage.postgresql import clock, sender_leases
from idlib.storage.postgresql.connection import PostgresDatabase, UnknownOutcomeError
from idlib.storage.postgresql.owner import check_owner
from idlib.storage.queued import (
    MAX_DIVERGENCE_SECONDS,
    MAX_OCTETS,
    OVERHEAD_OCTETS,
    BootTime,
    OutgoingMessage,
    Waiting,
)
from idlib.system.times import EARLIEST_CREDIBLE_TIME

_VERSION: Final = 1
# A text may have zero bytes, which PostgreSQL's type `text` excludes. Names are compared byte by byte, as in SQLite.
# Dead rows have texts, so the next run of autovacuum removes them, however few they are.
_SCHEMA: Final = f"""\
CREATE TABLE outgoing (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recipient text COLLATE "C" NOT NULL,
    identifier text COLLATE "C" NOT NULL UNIQUE,
    content bytea NOT NULL,
    content_type text,
    octets integer NOT NULL,
    queued_at bigint NOT NULL,
    lifetime bigint,
    was_sealed_to_epoch boolean NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 1
);
CREATE INDEX outgoing_by_recipient ON outgoing (recipient, number);
CREATE INDEX outgoing_by_time ON outgoing (queued_at);
CREATE INDEX outgoing_by_end ON outgoing ((queued_at + lifetime));
CREATE TABLE marked (name text COLLATE "C" PRIMARY KEY, seen_at bigint NOT NULL);
CREATE INDEX marked_by_time ON marked (seen_at);
CREATE TABLE outgoing_owner (is_only boolean PRIMARY KEY CHECK (is_only), name text NOT NULL);
{sender_leases.SCHEMA}
"""
# Only one program at a time adds a message, so that the limit is kept.
_PUT_LOCK: Final = 0x44414E4F
_TOTAL: Final = f"SELECT count(*), coalesce(sum(octets + {OVERHEAD_OCTETS}), 0)::bigint FROM outgoing"  # noqa: S608  # ours


class PostgresOutbox:
    """The outbox of a program that queues messages, an `OutboxStore`. Any number of threads may use it.

    Args:
        database: The database; closed together with this.
        owner: The name of the device, which signs what is in the outbox.

    Raises:
        StoreError: The outbox in the database is that of another name, or the database cannot be used.
    """

    def __init__(self, database: PostgresDatabase, owner: IdentityName) -> None:
        self._database = database
        try:
            clock.prepare(database)
            database.prepare("outbox", _VERSION, _SCHEMA)
            _note_owner(database, str(owner))
        except BaseException:
            database.close()
            raise

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the outbox in the database in STORE, which must be set.

        Args:
            settings: From the environment.

        Raises:
            ConfigurationError: The file in STORE_PASSWORD_FILE cannot be read, or the library is not installed.
            StoreError: The outbox in the database is that of another name, or the database cannot be used.
        """
        return cls(PostgresDatabase.from_settings(settings), settings.identity_name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the outbox; it cannot be used afterwards."""
        self._database.close()

    def put(self, message: NewOutgoingMessage, at: BootTime | None = None) -> None:
        """Queue a message unless one with its identifier is queued; it is durable when this returns.

        Args:
            message: The message; its content is not empty.
            at: When it was queued, by the boot clock; None if that is not known. If it is known, the database's clock
                must show about the same time as `queued_at`; otherwise the message is queued at the time it shows.

        Raises:
            StoreError: The outbox is full, or the database cannot be used. Nothing of the message is stored, unless the
                error says that this is not known.
        """
        content, octets = _stored(message)
        try:
            with self._database.transaction() as statements:
                statements.execute("SELECT pg_advisory_xact_lock(?)", (_PUT_LOCK,))
                known = statements.execute("SELECT 1 FROM outgoing WHERE identifier = ?", (message.identifier,))
                if known.fetchone() is not None:
                    return
                number, total = statements.execute(_TOTAL).fetchall()[0]
                if total + octets + OVERHEAD_OCTETS > MAX_OCTETS:
                    raise StoreError(
                        f"the outbox is full: {number} messages take {total} of its {MAX_OCTETS} bytes",
                        "send the message again once the broker and DNS can be reached",
                    )
                statements.execute(
                    "INSERT INTO outgoing (recipient, identifier, content, content_type, octets, queued_at, lifetime,"  # noqa: S608
                    " was_sealed_to_epoch) SELECT ?, ?, ?, ?, ?,"
                    " CASE WHEN ? AND abs(now - ?) > ? THEN now ELSE ? END, ?::bigint, ?"
                    f" FROM (SELECT {clock.TRUSTED_TIME}::bigint AS now) AS clock",
                    (
                        *(message.recipient, message.identifier, content, message.content_type, octets),
                        *(at is not None, message.queued_at, MAX_DIVERGENCE_SECONDS, message.queued_at),
                        *(message.lifetime, message.was_sealed_to_epoch),
                    ),
                )
        except UnknownOutcomeError as error:
            raise DatabaseError(
                f"{error.fact}; it is not known whether the message is queued", "send it again if it does not arrive"
            ) from error

    def next_to(self, recipient: str, after: int) -> OutgoingMessage | None:
        """Return the next message to a recipient, or None if there is none.

        Args:
            recipient: The recipient's name.
            after: The number of the message before it; 0 for the first message.
        """
        with self._database.transaction() as statements:
            row = statements.execute(
                "SELECT number, identifier, content, content_type, queued_at, lifetime, was_sealed_to_epoch"
                " FROM outgoing WHERE recipient = ? AND number > ? ORDER BY number LIMIT 1",
                (recipient, after),
            ).fetchone()
        if row is None:
            return None
        number, identifier, content, content_type, queued_at, lifetime, was_sealed_to_epoch = row
        return OutgoingMessage(
            recipient,
            identifier,
            content.decode() if content_type is None else content,
            queued_at,
            lifetime,
            number,
            was_sealed_to_epoch=was_sealed_to_epoch,
            content_type=content_type,
        )

    def waiting(self) -> Waiting:
        """Return how many messages are queued, and since when."""
        with self._database.transaction() as statements:
            number, since = statements.execute("SELECT count(*), min(queued_at) FROM outgoing").fetchall()[0]
        return Waiting(number, since)

    def size(self) -> int:
        """Return how many bytes the messages take, as counted for the limit."""
        with self._database.transaction() as statements:
            return int(statements.execute(_TOTAL).fetchall()[0][1])

    def has_senders(self) -> bool:
        """Return whether a resident sender delivers from the outbox."""
        with self._database.transaction() as statements:
            return bool(statements.execute(sender_leases.HAS_SENDERS).fetchall()[0][0])

    def note_mark(self, name: str, now: int) -> None:
        """Store that a name is marked as having epoch keys; it is durable when this returns.

        Args:
            name: The name.
            now: Seconds since the epoch; a time before this software was built counts as that time.
        """
        with self._database.transaction() as statements:
            statements.execute(
                "INSERT INTO marked VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seen_at = EXCLUDED.seen_at",
                (name, max(now, EARLIEST_CREDIBLE_TIME)),
            )
            statements.execute(
                "DELETE FROM marked WHERE name IN"
                " (SELECT name FROM marked ORDER BY seen_at DESC, name OFFSET ? FOR UPDATE SKIP LOCKED)",
                (epoch_notes.MAX_MARKED_NAMES,),
            )

    def forget_mark(self, name: str) -> None:
        """Forget that a name was marked; that is durable when this returns.

        Args:
            name: The name.
        """
        with self._database.transaction() as statements:
            statements.execute("DELETE FROM marked WHERE name = ?", (name,))

    def marked_at(self, name: str) -> int | None:
        """Return when a name was last seen marked, in seconds since the epoch; None if that is not known.

        Args:
            name: The name.
        """
        with self._database.transaction() as statements:
            row = statements.execute("SELECT seen_at FROM marked WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])


def _note_owner(database: PostgresDatabase, ours: str) -> None:
    check_owner(database, ours)
    with database.transaction() as statements:
        statements.execute("INSERT INTO outgoing_owner VALUES (true, ?) ON CONFLICT DO NOTHING", (ours,))
    # Another program may have noted another name at the same moment.
    check_owner(database, ours)


def _stored(message: NewOutgoingMessage) -> tuple[bytes, int]:
    """Return the content of a message in bytes, and for how many bytes it counts: with its type, as in SQLite."""
    if isinstance(message.content, str):
        content = message.content.encode()
        return content, len(content)
    assert message.content_type is not None  # noqa: S101  # the message has checked it
    return message.content, len(message.content_type) + 1 + len(message.content)
