"""Keeps the lease of this receiver: renews it, and takes another one if it has expired."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.database_time import DatabaseTimekeeper
from idlib.errors import IdlibError, StoreError
from idlib.storage.postgresql.leases import RENEWAL_SECONDS, VALID_SECONDS, Leases, OtherReceiverError
from idlib.system.failure_log import FailureLog
from messaging_receiver.durable_writes import STORE_RETRY_SECONDS, DurableWrites

_LOG = logging.getLogger(__name__)

_END_SECONDS: Final = 1.0
# A renewal that takes longer may come too late.
_SLOW_SECONDS: Final = VALID_SECONDS - RENEWAL_SECONDS
_EXPIRED: Final = "lease: it has expired, and nothing is printed until it is renewed"


class Membership:
    """The lease of this receiver, and its renewal in a thread of its own.

    Args:
        leases: The leases; one to subscribe with has been taken.
        client_id: The client id of that lease.
        timekeeper: Measured again at each renewal.
        writes: Told whether the database can be used.
    """

    def __init__(self, leases: Leases, client_id: str, timekeeper: DatabaseTimekeeper, writes: DurableWrites) -> None:
        self.leases = leases
        # Returns whether the broker has confirmed the subscription.
        self.is_subscribed: Callable[[], bool] = lambda: False
        # Called if this receiver must end, because another one that is not of the group uses the database.
        self.fail: Callable[[IdlibError], None] = lambda _: None
        # Called after the lease had expired: other receivers may have taken over our deferred messages.
        self.note_lapse: Callable[[], None] = lambda: None
        self._client_id = client_id
        self._term = leases.term
        self._timekeeper = timekeeper
        self._writes = writes
        self._subscribed_with: str | None = None
        # The session that the next notes are about: the one before may still be noted after the client id has changed.
        self._recalled = client_id
        self._slowness = FailureLog(_LOG)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="Lease", daemon=True)

    @property
    def client_id(self) -> str:
        """The client id of the session to subscribe with; it changes if another receiver takes the lease."""
        return self._client_id

    @property
    def held_client_id(self) -> str | None:
        """The client id if its lease is valid; otherwise another receiver may have taken over the session: None."""
        client_id = self._client_id
        return client_id if self.leases.holds(client_id) else None

    @property
    def problem(self) -> str | None:
        """Why this receiver may not print, or None."""
        return None if self.leases.is_valid else _EXPIRED

    @property
    def state(self) -> str:
        """The state of the lease, and the number of live receivers, as `--health` says them after the rest."""
        members = self.members()
        return f", lease {members['lease']}, receivers {members['receivers']}"

    def members(self) -> dict[str, str | int]:
        """Return what the status line says of the lease."""
        return {"lease": "valid" if self.leases.is_valid else "expired", "receivers": self.leases.receivers}

    def start(self) -> None:
        """Start to renew the lease."""
        self._thread.start()

    def end(self) -> None:
        """Renew no more, and let other receivers take the leases that are left at once, if the database can be used."""
        self._ended.set()
        self._thread.join(_END_SECONDS)

    def recall(self) -> str | None:
        """Return what is noted of the session at the broker; None if nothing is, or the database is away."""
        self._recalled = self._client_id
        try:
            return self.leases.session(self._recalled)
        except StoreError:
            return None

    def note(self, text: str) -> None:
        """Note a text about the session at the broker; without the note, the session works.

        Args:
            text: In place of the one before.
        """
        with contextlib.suppress(StoreError):
            self.leases.note_session(self._recalled, text)

    def _keep(self) -> None:
        pause = RENEWAL_SECONDS
        while not self._ended.wait(pause):
            began_at = time.monotonic()
            if self._renew():
                seconds = time.monotonic() - began_at
                self._note_slowness(seconds)
                pause = max(0.0, RENEWAL_SECONDS - seconds)
            else:
                pause = STORE_RETRY_SECONDS
        # If the database is away, they expire.
        with contextlib.suppress(StoreError):
            self.leases.abandon()

    def _note_slowness(self, seconds: float) -> None:
        if seconds >= _SLOW_SECONDS:
            self._slowness.begin(
                "The database answers so slowly that the lease of this receiver may expire again and again",
                f": to renew it took {seconds:.0f} s; meanwhile, nothing is printed",
            )
        else:
            self._slowness.end()

    def _renew(self) -> bool:
        """Renew the lease, and return whether the database can be used."""
        try:
            if not self.leases.renew():
                self._take_another()
            self._note_term()
            self._note_subscribed()
            self._timekeeper.refresh()
        except OtherReceiverError as error:
            self.fail(error)
        except StoreError as error:
            self._writes.note_failure(error)
            return False
        except Exception:  # noqa: BLE001  # an internal error must not end the renewal
            _LOG.exception("Internal error while the lease is renewed")
        self._writes.note_database()
        return True

    def _take_another(self) -> None:
        before, self._client_id = self._client_id, self.leases.take()
        self._subscribed_with = None
        if before == self._client_id:
            _LOG.info("The lease of this receiver had expired, and is renewed: it prints again")
        else:
            _LOG.warning(
                "The lease of this receiver had expired, and another receiver has taken over its session: it continues"
                " with another one"
            )

    def _note_term(self) -> None:
        term = self.leases.term
        if term != self._term:
            self._term = term
            self.note_lapse()

    def _note_subscribed(self) -> None:
        if self._subscribed_with != self._client_id and self.is_subscribed():
            self.leases.note_subscribed()
            self._subscribed_with = self._client_id
