"""Retries operations on the store while the disk fails, so that a full disk delays messages but loses none."""

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from idlib.errors import StoreError
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

STORE_RETRY_SECONDS: Final = 1.0
T = TypeVar("T")


class DurableWrites:
    """Retries operations on the store until they succeed or the receiver stops.

    Args:
        stopping: Set to stop the receiver.
        note_movement: Called at each retry, because a thread that waits for the disk is not stuck.
    """

    def __init__(self, stopping: threading.Event, note_movement: Callable[[], None]) -> None:
        self._stopping = stopping
        self._note_movement = note_movement
        self._outage = FailureLog(_LOG)

    @property
    def failure(self) -> str | None:
        """Why the store cannot be used now, or None."""
        return self._outage.cause

    def retry(self, operation: Callable[[], T]) -> T:
        """Run an operation on the store, and retry it until it succeeds.

        Args:
            operation: Must be atomic, because it may run more than once.

        Raises:
            StoreError: The store cannot be used, and the receiver is stopping.
        """
        has_failed = False
        while True:
            try:
                result = operation()
            except StoreError as error:
                if self._stopping.is_set():
                    # The receiver closes the store before all of its threads have ended.
                    raise
                has_failed = True
                self._outage.begin(f"Messages wait for the disk: {error}")
                self._note_movement()
                if self._stopping.wait(STORE_RETRY_SECONDS):
                    raise
            else:
                # Only a retry that succeeds ends the outage: reading works on a full disk, too.
                if has_failed and self._outage.end():
                    _LOG.info("The disk can be used again")
                return result
