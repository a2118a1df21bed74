"""The outbox in the database for resident senders: each recipient's messages are sent by one of them at a time."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Final, Self

from idlib.errors import DatabaseError, StoreError
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage.postgresql.clock import DatabaseClock
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.outbox import PostgresOutbox
from idlib.storage.postgresql.sender_leases import SenderLease, is_held
from idlib.storage.queued import BootTime

# Reads only the first message of each recipient, however many are queued.
_RECIPIENTS: Final = """
WITH RECURSIVE found (recipient) AS (
    SELECT min(recipient) FROM outgoing
    UNION ALL
    SELECT (SELECT min(recipient) FROM outgoing WHERE outgoing.recipient > found.recipient)
        FROM found WHERE recipient IS NOT NULL
)
SELECT recipient FROM found WHERE recipient IS NOT NULL
    ORDER BY (SELECT min(number) FROM outgoing WHERE outgoing.recipient = found.recipient)
"""
_EXPIRED: Final = "(lifetime IS NULL AND queued_at <= ? OR queued_at + lifetime <= ? OR queued_at <= ?)"


class PostgresDelivery(PostgresOutbox):
    """The outbox of a resident sender, a `DeliveryStore`. Any number of threads may use it.

    Args:
        database: The database; closed together with this.
        renewals: Another connection to it, for the renewals of the sender's lease; closed together with this.
        owner: The name of the device, which signs what is in the outbox.

    Raises:
        ClockError: The database's clock shows a time before this software was made.
        StoreError: The outbox in the database is that of another name, or the database cannot be used.
    """

    def __init__(self, database: PostgresDatabase, renewals: PostgresDatabase, owner: IdentityName) -> None:
        super().__init__(database, owner)
        try:
            self.clock = DatabaseClock(database)
            self._lease = SenderLease(renewals)
        except BaseException:
            database.close()
            raise
        self._lock = threading.Lock()
        # Which name of this sender has taken a recipient.
        self._taken: dict[str, str] = {}
        # Kept while the database is away, so that these messages are not sent again afterwards.
        self.acknowledged: set[int] = set()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the outbox in the database in STORE, which must be set.

        Args:
            settings: From the environment.

        Raises:
            ConfigurationError: The file in STORE_PASSWORD_FILE cannot be read, or the library is not installed.
            ClockError: The database's clock shows a time before this software was made.
            StoreError: The outbox in the database is that of another name, or the database cannot be used.
        """
        database, renewals = (PostgresDatabase.from_settings(settings) for _ in range(2))
        return cls(database, renewals, settings.identity_name)

    def close(self) -> None:
        """Let other senders take the recipients, and close the outbox."""
        self._lease.close()
        super().close()

    def hold_for_delivery(self) -> None:
        """Do nothing: each recipient is taken separately."""

    def recipients(self) -> tuple[str, ...]:
        """Return the recipients of queued messages, the one whose message was queued first at the beginning."""
        with self._database.transaction() as statements:
            return tuple(recipient for (recipient,) in statements.execute(_RECIPIENTS))

    def taken_by_others(self) -> frozenset[str]:
        """Return the recipients to which another process sends at present."""
        with self._database.transaction() as statements:
            rows = statements.execute(
                "SELECT recipient FROM outgoing_lease"  # noqa: S608  # of ours alone, here and below
                f" WHERE holder <> ? AND {is_held('outgoing_lease.holder')}",
                (self._lease.holder or "",),
            )
            return frozenset(recipient for (recipient,) in rows)

    def take(self, recipient: str) -> bool:
        """Become the only process that sends to a recipient, until `release`; return False if another one is.

        Args:
            recipient: The name.
        """
        holder = self._lease.take(self._database, recipient)
        if holder is None:
            return False
        with self._lock:
            self._taken[recipient] = holder
        return True

    def check_taken(self, recipient: str) -> None:
        """Check just before a message is published that no other process can send to the recipient.

        Args:
            recipient: The name, from `take`.

        Raises:
            StoreError: Another process may send to it by now.
        """
        with self._lock:
            holder = self._taken.get(recipient)
        if holder is None or holder != self._lease.holder:
            raise DatabaseError(
                f"another resident sender may send them: the database {self._database.place} did not answer in time"
            )

    def release(self, recipient: str) -> None:
        """Let other processes send to a recipient.

        Args:
            recipient: The name, from `take`.
        """
        with self._lock:
            holder = self._taken.pop(recipient, None)
        # If the database is away, the recipient is free once the lease has ended or this process takes it again.
        with contextlib.suppress(StoreError), self._database.transaction() as statements:
            statements.execute("DELETE FROM outgoing_lease WHERE recipient = ? AND holder = ?", (recipient, holder))

    def note_sealed_to_epoch(self, number: int) -> None:
        """Store that a message is encrypted to an epoch key; it is durable when this returns.

        Args:
            number: Its number in the outbox.
        """
        with self._database.transaction() as statements:
            statements.execute("UPDATE outgoing SET was_sealed_to_epoch = true WHERE number = ?", (number,))

    def remove(self, number: int) -> None:
        """Remove a message; the removal is durable when this returns.

        Args:
            number: Its number in the outbox.
        """
        with self._database.transaction() as statements:
            statements.execute("DELETE FROM outgoing WHERE number = ?", (number,))

    def forget_expired(self, now: int, usual: int, longest: int) -> Sequence[tuple[str, str]]:
        """Remove expired messages, except to recipients of other senders, which drop them themselves.

        Args:
            now: Seconds since the epoch.
            usual: The lifetime in seconds of a message that has none of its own.
            longest: The longest lifetime in seconds: how long the recipient remembers what it has printed.

        Returns:
            The identifier and recipient of each.
        """
        values = (now - min(usual, longest), now, now - longest)
        with self._database.transaction() as statements:
            # This is called several times a second, and seldom finds any.
            if statements.execute(f"SELECT 1 FROM outgoing WHERE {_EXPIRED} LIMIT 1", values).fetchone() is None:  # noqa: S608
                return []
            return statements.execute(
                "DELETE FROM outgoing WHERE number IN"  # noqa: S608
                f" (SELECT number FROM outgoing WHERE {_EXPIRED} AND NOT EXISTS"
                " (SELECT 1 FROM outgoing_lease WHERE outgoing_lease.recipient = outgoing.recipient AND holder <> ?"
                f" AND {is_held('outgoing_lease.holder')}) FOR UPDATE SKIP LOCKED) RETURNING identifier, recipient",
                (*values, self._lease.holder or ""),
            ).fetchall()

    def correct_times(self, earliest: int, now: int, latest: int | None = None) -> None:
        """Set the queuing time to now for messages whose queuing time is impossible, because the clock was wrong.

        Args:
            earliest: The earliest possible queuing time, in seconds since the epoch.
            now: Seconds since the epoch.
            latest: The latest possible queuing time, in seconds since the epoch; None for now.
        """
        wrong = "(queued_at < ? OR queued_at > ?)"
        bounds = (earliest, now if latest is None else latest)
        with self._database.transaction() as statements:
            statements.execute(
                f"UPDATE outgoing SET queued_at = ? WHERE number IN"  # noqa: S608
                f" (SELECT number FROM outgoing WHERE {wrong} FOR UPDATE SKIP LOCKED)",
                (now, *bounds),
            )

    def follow_clock(self, now: int, at: BootTime) -> None:
        """Do nothing: the queuing times are those of the database's clock.

        Args:
            now: Seconds since the epoch.
            at: The same time by the boot clock.
        """
