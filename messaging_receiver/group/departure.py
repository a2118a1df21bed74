"""Leaves the group when the receiver is stopped, so that no message waits at the broker for it."""

import logging
import threading
from collections.abc import Callable
from typing import Final, Protocol

from idlib.errors import StoreError

_LOG = logging.getLogger(__name__)

# The receiver has five seconds to end, and what is already authenticated has to be printed after this.
LEAVE_SECONDS: Final = 2.0


class LeavingLeases(Protocol):
    """The leases of a receiver that leaves; `idlib.storage.postgresql.leases.Leases` are."""

    def begin_to_leave(self) -> bool:
        """Begin to leave the group; return whether another receiver stays."""

    def release(self, client_id: str) -> None:
        """Delete the lease of a session that has ended."""


class Departure:
    """What happens between the signal that stops a receiver of a group, and its end.

    Args:
        leases: Knows whether other receivers stay.
        client_id: Returns the client id of the receiver's own session.
        leave: Unsubscribes, takes what the session still has, and ends it; returns whether that took no longer than
            some seconds (`Subscription.leave`).
        leaving: Set to leave.
        stopping: Set when the receiver has left, or cannot; then it ends.
    """

    def __init__(
        self,
        leases: LeavingLeases,
        client_id: Callable[[], str],
        leave: Callable[[float], bool],
        leaving: threading.Event,
        stopping: threading.Event,
    ) -> None:
        self._leases = leases
        self._client_id = client_id
        self._leave = leave
        self._leaving = leaving
        self._stopping = stopping

    def run(self) -> None:
        """Wait until the receiver is to leave, and stop it when it has left, or after two seconds."""
        self._leaving.wait()
        # In a thread of its own, because the database may not answer.
        thread = threading.Thread(target=self.leave, name="Leaving", daemon=True)
        thread.start()
        thread.join(LEAVE_SECONDS)
        self._stopping.set()

    def leave(self) -> None:
        """Leave the group; the last receiver keeps its session, so that the broker keeps messages for the next start.

        What is not finished in time stays in the session, which another receiver then drains.
        """
        try:
            if not self._leases.begin_to_leave():
                _LOG.info("No other receiver stays: the session at the broker is kept for the next start")
                return
            client_id = self._client_id()
            if self._leave(LEAVE_SECONDS):
                self._leases.release(client_id)
                _LOG.info("The receiver has left its group, and its session at the broker has ended")
            else:
                _LOG.info("The receiver leaves its group; another one takes over its session at the broker")
        except StoreError as error:
            _LOG.warning("The receiver cannot leave its group now, and its lease expires: %s", error)
