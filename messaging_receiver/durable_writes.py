"""Reading and writing the store while its disk may fail: a full disk holds messages back, and loses none."""

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
        stopping: Set when the receiver is told to stop.
        note_movement: Called at each retry, for a thread that waits for the disk is not stuck.
    """

    def __init__(self, stopping: threading.Event, note_movement: Callable[[], None]) -> None:
        self._stopping = stopping
        self._note_movement = note_movement
        self._outage = FailureLog(_LOG)

    @property
    def failure(self) -> str | None:
        """Why the store cannot be used at present, or None."""
        return self._outage.cause

    def retry(self, operation: Callable[[], T]) -> T:
        """Do something with the store; if it fails, try again until it succeeds.

        Args:
            operation: Changes all or nothing.

        Raises:
            StoreError: The store cannot be used, and the receiver stops.
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
                # Success at once proves nothing: reading works on a full disk.
                if has_failed and self._outage.end():
                    _LOG.info("The disk can be used again")
                return result
