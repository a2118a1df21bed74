"""Drains the sessions of receivers that are gone, so that no message waits at the broker for one of them."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from idlib.errors import TransportError
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.transport import ReceivedPacket
from idlib.transport.session_drain import SessionDrain
from messaging_receiver.context import Context

_LOG = logging.getLogger(__name__)

# How many abandoned sessions a receiver drains at a time.
DRAINED_AT_ONCE: Final = 2
LOOK_SECONDS: Final = 5.0
_SHORTEST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


class DrainLeases(Protocol):
    """The leases of abandoned sessions; `idlib.storage.postgresql.leases.Leases` are."""

    def take_abandoned(self, drained: Collection[str]) -> str | None:
        """Take the lease of an abandoned session, and return its client id; None if there is none.

        Args:
            drained: The client ids of the sessions that this receiver drains; another one of ours is returned again.
        """

    def holds(self, client_id: str) -> bool:
        """Return whether the lease is still ours."""

    def release(self, client_id: str) -> None:
        """Delete the lease of a session that has ended."""


class AbandonedSessions:
    """Looks for abandoned sessions, and drains each through the same queue as the receiver's own session.

    Each thread that calls `run` drains one session at a time. If this receiver is stopped or dies meanwhile, its lease
    expires, and another receiver continues.

    Args:
        context: What the stages share.
        leases: Which sessions are abandoned.
        open_drain: Returns a drain of the session with a client id.
        is_subscribed: Returns whether this receiver is subscribed. Only then it begins to drain a session: without any
            subscription, the broker would drop what is published.
        leaving: Set when this receiver leaves, so that others drain what is left.
    """

    def __init__(
        self,
        context: Context,
        leases: DrainLeases,
        open_drain: Callable[[str], SessionDrain],
        is_subscribed: Callable[[], bool],
        leaving: threading.Event,
    ) -> None:
        self._context = context
        self._leases = leases
        self._open_drain = open_drain
        self._is_subscribed = is_subscribed
        self._leaving = leaving
        self._outage = FailureLog(_LOG)
        self._lock = threading.Lock()
        # By the client ids; replaced as a whole, because other threads iterate over it.
        self._drains: Mapping[str, SessionDrain] = {}

    def run(self) -> None:
        """Look for an abandoned session and drain it, again and again until the receiver stops.

        Raises:
            StoreError: The database cannot be used, and the receiver is stopping.
        """
        while not self._context.stopping.wait(LOOK_SECONDS):
            if self._is_subscribed() and not self._leaving.is_set():
                self.drain_next()

    def settle(self, packets: Sequence[ReceivedPacket]) -> None:
        """Acknowledge messages of sessions that are being drained; does nothing with messages of others.

        Args:
            packets: The packets of messages that are printed, refused or stored for good.
        """
        for drain in self._drains.values():
            drain.settle(packets)

    def drain_next(self) -> bool:
        """Drain an abandoned session if there is one; return whether one was drained and ended.

        Raises:
            StoreError: The database cannot be used, and the receiver is stopping.
        """
        client_id = self._context.writes.retry(lambda: self._leases.take_abandoned(self._drains.keys()))
        self._context.movements.rest()
        if client_id is None:
            return False
        with self._lock:
            if client_id in self._drains:
                # Its lease had expired, and another thread of this receiver has not noticed: that one continues.
                return False
            drain = self._open_drain(client_id)
            self._drains = {**self._drains, client_id: drain}
        try:
            if not self._drain(drain, client_id):
                return False
            self._context.writes.retry(lambda: self._leases.release(client_id))
        finally:
            with self._lock:
                self._drains = {name: each for name, each in self._drains.items() if each is not drain}
        self._context.movements.rest()
        _LOG.info("The session of a receiver that is gone is drained, and has ended at the broker")
        return True

    def _drain(self, drain: SessionDrain, client_id: str) -> bool:
        def may_continue() -> bool:
            return not self._context.stopping.is_set() and not self._leaving.is_set() and self._leases.holds(client_id)

        backoff = Backoff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        while may_continue():
            try:
                has_ended = drain.run(may_continue)
            except TransportError as error:
                self._outage.begin(f"The session of a receiver that is gone cannot be drained now: {error}")
                self._context.stopping.wait(backoff.next_pause())
            else:
                self._outage.end()
                if has_ended:
                    return True
        return False
