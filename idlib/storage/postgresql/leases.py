"""Leases of client ids: which receivers of the group are live, and whose sessions at the broker are abandoned.

A receiver renews its leases every `RENEWAL_SECONDS`; one that is not renewed for `LEASE_SECONDS`, by the database's
clock, is abandoned, and another receiver may take it together with the session at the broker. A receiver has one lease
for the session that it subscribes with, and one for each abandoned session that it drains. Anyone who knows a client id
can take over its session, so no client id is logged.
"""

import math
import threading
import uuid
from collections.abc import Callable, Collection
from typing import Final

from idlib.errors import StoreError
from idlib.storage.postgresql.connection import PostgresDatabase, Statements
from idlib.system.clock import boot_time

LEASE_SECONDS: Final = 15.0
# By its own clock, a receiver stops sooner: after a failover, the database's clock may be some seconds ahead.
VALID_SECONDS: Final = 12.0
RENEWAL_SECONDS: Final = 4.0
# While the database is away for longer, every lease may expire; the receivers renew them within the second time.
_LONGEST_PAUSE_SECONDS: Final = LEASE_SECONDS - 2 * RENEWAL_SECONDS
_GRACE_SECONDS: Final = 2 * RENEWAL_SECONDS

_LEASES_LOCK: Final = 0x44414E46
_SCHEMA: Final = """\
CREATE TABLE IF NOT EXISTS receiver (
    client_id text PRIMARY KEY,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL,
    is_alone boolean NOT NULL,
    is_draining boolean NOT NULL DEFAULT false,
    is_subscribed boolean NOT NULL DEFAULT false,
    is_leaving boolean NOT NULL DEFAULT false,
    is_ended boolean NOT NULL DEFAULT false,
    session text
);
CREATE INDEX IF NOT EXISTS receiver_by_holder ON receiver (holder)
"""
_VERSION: Final = 1
# A lease that ends much later was renewed before the database's clock was set back.
_LATEST: Final = f"interval '{4 * LEASE_SECONDS} s'"
_IS_LIVE: Final = f"(expires_at > clock_timestamp() AND expires_at <= clock_timestamp() + {_LATEST})"
_IS_TO_BE_DRAINED: Final = (
    f"(?::boolean AND NOT {_IS_LIVE} OR holder = ? AND is_draining AND client_id <> ALL (?::text[]))"
)
_NEXT_EXPIRY: Final = f"clock_timestamp() + interval '{LEASE_SECONDS} s'"


def is_live(column: str) -> str:
    """Return SQL that is true if a holder is live.

    Args:
        column: An expression for the holder; a column with its table's name, because `receiver` has a column `holder`.
    """
    # By the time for which the statement sees the leases: it may have waited since, and renewals may have been missed.
    now = "statement_timestamp()"
    live = f"receiver.expires_at > {now} AND receiver.expires_at <= {now} + {_LATEST}"
    return f"EXISTS (SELECT 1 FROM receiver WHERE receiver.holder = {column} AND {live})"  # noqa: S608


def new_holder() -> str:
    """Return a random name for a receiver, which it has until it ends."""
    return str(uuid.uuid4())


class OtherReceiverError(StoreError):
    """Another receiver uses the database, and both may not at the same time.

    Args:
        place: Host and name of the database.
        expires_at: When its lease expires; if that changes, the receiver runs.
    """

    def __init__(self, place: str, expires_at: str) -> None:
        super().__init__(
            f"another receiver uses the database {place}", "stop it, or set RECEIVER_GROUP=on for every receiver"
        )
        self.expires_at = expires_at


class Takeovers:
    """Whether a receiver may take over what belongs to receivers whose leases have expired; thread-safe.

    While the database is away, the leases of live receivers expire, too. These get the time to renew them.

    Args:
        clock: Returns seconds by a clock that never jumps; those in which the system was suspended count.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answered_at = math.inf
        self._wait_until = -math.inf

    @property
    def may_begin(self) -> bool:
        """Whether something may be taken over now."""
        # In the reverse order of `note_answer`, which another thread may call.
        return not self._was_away and self._clock() >= self._wait_until

    def note_answer(self) -> None:
        """Note that the database has answered; to be called at least as often as leases are renewed."""
        now = self._clock()
        if self._was_away:
            self._wait_until = now + _GRACE_SECONDS
        self._answered_at = now

    def note_outage(self) -> None:
        """Note that the database was away until now, although no answer was missed: the receiver has just started."""
        self._wait_until = self._clock() + _GRACE_SECONDS

    @property
    def _was_away(self) -> bool:
        """Whether the database, or this machine, may have been away for so long that leases have expired."""
        return self._clock() - self._answered_at > _LONGEST_PAUSE_SECONDS


class Leases:
    """The leases of one receiver of a group. Any number of threads may use it.

    Every method with a transaction may raise `StoreError`; repeating it changes nothing more.

    Args:
        database: The database; the renewal must not wait for others, so nothing else should use this connection.
        holder: The receiver's name, from `new_holder`.
        new_client_id: Returns a random client id.
        boot_clock: Returns seconds since the system was started; those in which it was suspended count, because a lease
            expires meanwhile.
    """

    _IS_ALONE = False

    def __init__(
        self,
        database: PostgresDatabase,
        holder: str,
        new_client_id: Callable[[], str],
        boot_clock: Callable[[], float] = boot_time,
    ) -> None:
        self.holder = holder
        self._database = database
        self._new_client_id = new_client_id
        self._boot_clock = boot_clock
        self._lock = threading.Lock()
        self._held: frozenset[str] = frozenset()
        self._valid_until = 0.0
        self._expires_at = 0.0
        self._term = 0
        self._receivers = 0
        self._takeovers = Takeovers(boot_clock)

    def prepare(self) -> None:
        """Create the table, unless it exists; before any other method is called, also by those that use `is_live`."""
        self._database.prepare("leases", _VERSION, _SCHEMA)

    @property
    def is_valid(self) -> bool:
        """Whether the lease has been renewed in time; if not, another receiver may have taken over our messages."""
        return self._boot_clock() < self._valid_until

    @property
    def term(self) -> int | None:
        """The number of the present lease, or None while it is not valid.

        What was claimed in another term may belong to another receiver now, and has to be claimed again.
        """
        return self._term if self.is_valid else None

    @property
    def may_take_over(self) -> bool:
        """Whether the receiver may take over claims of receivers whose leases have expired."""
        return self._takeovers.may_begin

    def note_outage(self) -> None:
        """Note that the database was away until the receiver was started."""
        self._takeovers.note_outage()

    @property
    def receivers(self) -> int:
        """How many receivers were live at the last renewal."""
        return self._receivers

    def holds(self, client_id: str) -> bool:
        """Return whether the receiver has the lease of a client id, and it is valid.

        Args:
            client_id: From `take` or `take_abandoned`.
        """
        return self.is_valid and client_id in self._held

    def take(self) -> str:
        """Take a lease to subscribe with, and return its client id: an abandoned one, if any, to resume its session.

        Raises:
            OtherReceiverError: A receiver that is not one of the group uses the database.
            StoreError: The database cannot be used.
        """
        sent_at = self._boot_clock()
        with self._database.transaction() as statements:
            self._lock_leases(statements)
            self._check_others(statements)
            statements.execute(
                # Our own lease comes first: we have it already, or it expired while the database was away.
                f"UPDATE receiver SET holder = ?, expires_at = {_NEXT_EXPIRY}, is_draining = false, is_leaving = false,"  # noqa: S608
                " is_subscribed = is_subscribed AND NOT is_ended, is_ended = false"
                " WHERE client_id = (SELECT client_id FROM receiver"
                f" WHERE is_alone = ? AND (holder = ? AND NOT is_draining OR NOT {_IS_LIVE})"
                " ORDER BY (holder = ? AND NOT is_draining) DESC, expires_at LIMIT 1 FOR UPDATE)",
                (self.holder, self._IS_ALONE, self.holder, self.holder),
            )
            statements.execute(
                "INSERT INTO receiver (client_id, holder, expires_at, is_alone)"  # noqa: S608
                f" SELECT ?, ?, {_NEXT_EXPIRY}, ? WHERE NOT EXISTS"
                " (SELECT 1 FROM receiver WHERE holder = ? AND NOT is_draining)",
                (self._new_client_id(), self.holder, self._IS_ALONE, self.holder),
            )
            row = statements.execute(
                "SELECT client_id FROM receiver WHERE holder = ? AND NOT is_draining", (self.holder,)
            ).fetchone()
            receivers = _count(statements)
        assert row is not None  # noqa: S101  # inserted if there was none
        self._takeovers.note_answer()
        with self._lock:
            self._term += 1
            self._expires_at = sent_at + LEASE_SECONDS
            self._valid_until = sent_at + VALID_SECONDS
            self._held = frozenset((row[0],))
            self._receivers = receivers
        return str(row[0])

    def renew(self) -> bool:
        """Renew every lease of the receiver; return whether it still has the one that it subscribes with.

        If not, the receiver must call `take` again, and claim again what it has claimed.
        """
        # Separately, because a transaction takes more round trips: if each takes a second, the lease would expire.
        with self._database.separately() as statements:
            sent_at = self._boot_clock()
            renewed = self._renew(statements)
            self._takeovers.note_answer()
            has_own = any(not is_draining for _, is_draining in renewed)
            with self._lock:
                if self._boot_clock() >= self._expires_at:
                    # Before the renewal was committed, another receiver may have seen that the lease had expired.
                    self._term += 1
                self._expires_at = sent_at + LEASE_SECONDS
                # Measured from before the statement was sent, so it ends before the lease in the database does.
                self._valid_until = sent_at + VALID_SECONDS if has_own else 0.0
                self._held = frozenset(client_id for client_id, _ in renewed)
            self._receivers = _count(statements)
        return has_own

    def note_subscribed(self) -> None:
        """Note that the broker has accepted our subscription, and keeps it with the session."""
        with self._database.transaction() as statements:
            statements.execute(
                "UPDATE receiver SET is_subscribed = true WHERE holder = ? AND NOT is_draining", (self.holder,)
            )

    def session(self, client_id: str) -> str | None:
        """Return what is noted of a session of the receiver; None if nothing is.

        Args:
            client_id: From `take`.
        """
        with self._database.transaction() as statements:
            row = statements.execute(
                "SELECT session FROM receiver WHERE client_id = ? AND holder = ?", (client_id, self.holder)
            ).fetchone()
        return None if row is None else row[0]

    def note_session(self, client_id: str, text: str) -> None:
        """Note a text about a session of the receiver; it is kept as long as the lease.

        Args:
            client_id: From `take`.
            text: In place of the one before.
        """
        with self._database.transaction() as statements:
            statements.execute(
                "UPDATE receiver SET session = ? WHERE client_id = ? AND holder = ?", (text, client_id, self.holder)
            )

    def take_abandoned(self, drained: Collection[str] = ()) -> str | None:
        """Take an abandoned lease to drain its session, and return its client id; None if there is none.

        Shortly after the database was away, none is taken, because live receivers may not have renewed theirs yet.
        The lease is renewed together with the others until `release`.

        Args:
            drained: The client ids of the sessions that this receiver drains. If it has the lease of another one, it
                does not know that it has taken it, or has stopped to drain it for a moment: that one is returned again.
        """
        with self._database.separately() as statements:
            # Seldom is there one, and the next renewal waits for a transaction.
            row = statements.execute(
                f"SELECT 1 FROM receiver WHERE {_IS_TO_BE_DRAINED} LIMIT 1",  # noqa: S608
                (self.may_take_over, self.holder, list(drained)),
            ).fetchone()
            if row is None:
                return None
        with self._database.transaction() as statements:
            if not self._renew(statements):
                # Ours has expired itself.
                return None
            row = statements.execute(
                # To drain a session is to end its subscription, so whoever resumes it has to subscribe again.
                f"UPDATE receiver SET holder = ?, expires_at = {_NEXT_EXPIRY}, is_draining = true, is_leaving = false,"  # noqa: S608
                " is_subscribed = false"
                " WHERE client_id = (SELECT client_id FROM receiver"
                f" WHERE {_IS_TO_BE_DRAINED}"
                " ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING client_id",
                (self.holder, self.may_take_over, self.holder, list(drained)),
            ).fetchone()
        if row is None:
            return None
        with self._lock:
            self._held |= {row[0]}
        return str(row[0])

    def release(self, client_id: str) -> None:
        """Delete a lease of the receiver, because its session at the broker has ended.

        The lease that it subscribes with is deleted only by `abandon`, because the receiver is live until then: it may
        still print deferred messages, which no other receiver may claim meanwhile.

        Args:
            client_id: From `take` or `take_abandoned`.
        """
        with self._database.transaction() as statements:
            statements.execute(
                "DELETE FROM receiver WHERE client_id = ? AND holder = ? AND is_draining", (client_id, self.holder)
            )
            statements.execute(
                "UPDATE receiver SET is_ended = true WHERE client_id = ? AND holder = ?", (client_id, self.holder)
            )
        with self._lock:
            self._held -= {client_id}

    def begin_to_leave(self) -> bool:
        """Begin to leave the group.

        Returns:
            Whether another receiver stays, so that the session can be ended; if not, it must be kept for the next
            start, because messages are lost if there is no session at the broker.
        """
        with self._database.transaction() as statements:
            self._lock_leases(statements)
            row = statements.execute(
                "SELECT EXISTS (SELECT 1 FROM receiver"  # noqa: S608
                f" WHERE holder <> ? AND {_IS_LIVE} AND is_subscribed AND NOT is_draining AND NOT is_leaving)",
                (self.holder,),
            ).fetchone()
            stays = row is not None and bool(row[0])
            statements.execute(
                "UPDATE receiver SET is_leaving = ?, is_subscribed = is_subscribed AND NOT ? WHERE holder = ?",
                (stays, stays, self.holder),
            )
        return stays

    def abandon(self) -> None:
        """Delete the released lease, and let others take those that are left; the receiver must not print any more."""
        with self._lock:
            self._valid_until = 0.0
        with self._database.transaction() as statements:
            statements.execute("DELETE FROM receiver WHERE holder = ? AND is_ended", (self.holder,))
            statements.execute(
                "UPDATE receiver SET expires_at = clock_timestamp(), is_leaving = false WHERE holder = ?",
                (self.holder,),
            )

    def _check_others(self, statements: Statements) -> None:
        self._refuse_if("is_alone", statements)

    def _refuse_if(self, condition: str, statements: Statements) -> None:
        row = statements.execute(
            f"SELECT max(expires_at)::text FROM receiver WHERE holder <> ? AND {condition} AND {_IS_LIVE}",  # noqa: S608
            (self.holder,),
        ).fetchone()
        if row is not None and row[0] is not None:
            raise OtherReceiverError(self._database.place, row[0])

    def _renew(self, statements: Statements) -> list[tuple[str, bool]]:
        return statements.execute(
            f"UPDATE receiver SET expires_at = {_NEXT_EXPIRY} WHERE holder = ? AND {_IS_LIVE}"  # noqa: S608
            " RETURNING client_id, is_draining",
            (self.holder,),
        ).fetchall()

    @staticmethod
    def _lock_leases(statements: Statements) -> None:
        """Wait for others that decide who has which lease; a renewal decides nothing, and does not wait."""
        statements.execute("SELECT pg_advisory_xact_lock(?)", (_LEASES_LOCK,))


class SoleLease(Leases):
    """The lease of a receiver that is not one of a group: no other receiver may use the database.

    Its client id is used again at the next start.
    """

    _IS_ALONE = True

    def begin_to_leave(self) -> bool:
        """Return False: no other receiver stays."""
        return False

    def _check_others(self, statements: Statements) -> None:
        self._refuse_if("true", statements)


def _count(statements: Statements) -> int:
    row = statements.execute(f"SELECT count(DISTINCT holder) FROM receiver WHERE {_IS_LIVE}").fetchone()  # noqa: S608
    return 0 if row is None else int(row[0])
