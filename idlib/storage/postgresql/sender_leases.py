"""Which resident senders are live, by the database's clock, and to which recipients each of them sends.

A sender renews its lease every `RENEWAL_SECONDS`. If it does not for `LEASE_SECONDS`, others take over its recipients.
A lease that has ended is not renewed: the sender gets a new name, so that it does not go on with recipients that others
may have taken meanwhile.
"""

import contextlib
import logging
import threading
import uuid
from dataclasses import dataclass
from typing import Final

from idlib.errors import StoreError
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.system.clock import boot_time

_LOG = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15
RENEWAL_SECONDS: Final = 4
# A sender that ends does not wait for a server that does not answer.
_END_SECONDS: Final = 1.0
SCHEMA: Final = """\
CREATE TABLE outgoing_sender (
    holder text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE TABLE outgoing_lease (
    recipient text COLLATE "C" PRIMARY KEY,
    holder text NOT NULL REFERENCES outgoing_sender ON DELETE CASCADE
);
CREATE INDEX outgoing_lease_by_holder ON outgoing_lease (holder);
"""
# A lease that ends much later was renewed before the database's clock was set back.
_LIVE: Final = (
    "outgoing_sender.expires_at > clock_timestamp()"
    f" AND outgoing_sender.expires_at <= clock_timestamp() + interval '{4 * LEASE_SECONDS} s'"
)
HAS_SENDERS: Final = f"SELECT EXISTS (SELECT 1 FROM outgoing_sender WHERE {_LIVE})"  # noqa: S608  # ours, here and below
# Of the two numbers of an advisory lock, the first; the second is the hash of the recipient.
_TAKING: Final = 0x4F55
_NEXT_EXPIRY: Final = f"clock_timestamp() + interval '{LEASE_SECONDS} s'"


def is_held(column: str) -> str:
    """Return SQL that is true if a holder of recipients is live.

    Args:
        column: An expression for the holder, with its table's name.
    """
    return f"EXISTS (SELECT 1 FROM outgoing_sender WHERE outgoing_sender.holder = {column} AND {_LIVE})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Term:
    """A lease as it was renewed last.

    Args:
        holder: The sender's name.
        renewed_at: When the renewal was sent, in seconds by the boot clock, which counts suspension as well.
    """

    holder: str
    renewed_at: float


class SenderLease:
    """The lease of this process, renewed by a thread until `close`. Any number of threads may use it.

    Args:
        renewals: The connection for the renewals, which must not wait for others; closed together with this.

    Raises:
        StoreError: The database cannot be used.
    """

    def __init__(self, renewals: PostgresDatabase) -> None:
        self._renewals = renewals
        self._term: _Term | None = None
        # Why the last renewal has failed.
        self._failure: StoreError | None = None
        self._closing = threading.Event()
        try:
            self.renew()
        except BaseException:
            renewals.close()
            raise
        self._thread = threading.Thread(target=self._keep, name="Outbox-Lease", daemon=True)
        self._thread.start()

    @property
    def holder(self) -> str | None:
        """The name of this sender while its lease is valid."""
        term = self._term
        return None if term is None or boot_time() >= term.renewed_at + LEASE_SECONDS else term.holder

    def renew(self) -> None:
        """Renew the lease, or get a new one if it has ended; remove those of other senders that have ended.

        Raises:
            StoreError: The database cannot be used.
        """
        term = self._term
        holder = "" if term is None else term.holder
        # From before the statement is sent, so that it ends here before it ends in the database.
        sent_at = boot_time()
        with self._renewals.transaction() as statements:
            renewed = statements.execute(
                f"UPDATE outgoing_sender SET expires_at = {_NEXT_EXPIRY} WHERE holder = ? AND {_LIVE}",  # noqa: S608
                (holder,),
            ).rowcount
            if not renewed:
                holder = str(uuid.uuid4())
                statements.execute(f"INSERT INTO outgoing_sender VALUES (?, {_NEXT_EXPIRY})", (holder,))  # noqa: S608
            statements.execute(
                "DELETE FROM outgoing_sender WHERE holder IN"  # noqa: S608
                f" (SELECT holder FROM outgoing_sender WHERE NOT ({_LIVE}) FOR UPDATE SKIP LOCKED)"
            )
        self._term = _Term(holder, sent_at)

    def take(self, database: PostgresDatabase, recipient: str) -> str | None:
        """Take a recipient, unless another live sender has it; return the holder that has taken it, or None.

        Args:
            database: A connection.
            recipient: The name.

        Raises:
            StoreError: The database cannot be used, or the lease has ended because it could not be renewed.
        """
        holder, failure = self.holder, self._failure
        if holder is None:
            if failure is not None:
                raise failure
            return None
        with database.transaction() as statements:
            # The statement after it sees what the one who had the lock before has committed.
            statements.execute("SELECT pg_advisory_xact_lock(?, hashtext(?))", (_TAKING, recipient))
            row = statements.execute(
                "INSERT INTO outgoing_lease (recipient, holder)"  # noqa: S608
                f" SELECT ?, holder FROM outgoing_sender WHERE holder = ? AND {_LIVE}"
                " ON CONFLICT (recipient) DO UPDATE SET holder = EXCLUDED.holder"
                f" WHERE outgoing_lease.holder = EXCLUDED.holder OR NOT {is_held('outgoing_lease.holder')}"
                " RETURNING holder",
                (recipient, holder),
            ).fetchone()
        return None if row is None else holder

    def close(self) -> None:
        """End the lease; if the database does not answer, it expires."""
        self._closing.set()
        self._thread.join(_END_SECONDS)
        self._term = None
        self._renewals.close()

    def _keep(self) -> None:
        while not self._closing.wait(RENEWAL_SECONDS):
            try:
                self.renew()
                self._failure = None
            except StoreError as error:
                # Whoever looks for messages reports it.
                self._failure = error
            except Exception:  # noqa: BLE001  # an internal error must not end the renewal
                _LOG.exception("Internal error while the lease is renewed")
        term = self._term
        if term is not None:
            with contextlib.suppress(StoreError), self._renewals.transaction() as statements:
                statements.execute("DELETE FROM outgoing_sender WHERE holder = ?", (term.holder,))
