"""Retries operations on the store while it fails, so that a full disk or a database that is away loses no messages."""

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from idlib.errors import DatabaseError, StoreError
from idlib.storage.database_outage import DatabaseOutage
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

STORE_RETRY_SECONDS: Final = 1.0
T = TypeVar("T")


class DurableWrites:
    """Retries operations on the store until they succeed or the receiver stops.

    Args:
        stopping: Set to stop the receiver.
        note_movement: Called at each retry, because a thread that waits for the store is not stuck.
    """

    def __init__(self, stopping: threading.Event, note_movement: Callable[[], None]) -> None:
        self._stopping = stopping
        self._note_movement = note_movement
        self._disk = FailureLog(_LOG)
        self._database = DatabaseOutage(_LOG)

    @property
    def problem(self) -> str | None:
        """Why the store cannot be used now, as `--health` says it; None if it can."""
        if self._database.problem is not None:
            return f"database: {self._database.problem}"
        return None if self._disk.cause is None else f"disk: {self._disk.cause}"

    def retry(self, operation: Callable[[], T]) -> T:
        """Run an operation on the store, and retry it until it succeeds.

        Args:
            operation: Must be atomic, because it may run more than once.

        Raises:
            StoreError: The store cannot be used, and the receiver is stopping.
        """
        failure: StoreError | None = None
        while True:
            try:
                result = operation()
            except StoreError as error:
                if self._stopping.is_set():
                    # The receiver closes the store before all of its threads have ended.
                    raise
                failure = error
                self.note_failure(error)
                self._note_movement()
                if self._stopping.wait(STORE_RETRY_SECONDS):
                    raise
            else:
                # Only a retry that succeeds ends the outage: reading works on a full disk, too.
                if failure is not None:
                    self.note_success(failure)
                return result

    def note_failure(self, error: StoreError) -> None:
        """Note that the store cannot be used.

        Args:
            error: What has failed.
        """
        if isinstance(error, DatabaseError):
            self._database.begin(error)
        else:
            self._disk.begin(f"Messages wait for the disk: {error}")

    def note_success(self, failure: StoreError) -> None:
        """Note that what has failed before has succeeded.

        Args:
            failure: How it failed.
        """
        if isinstance(failure, DatabaseError):
            self.note_database()
        elif self._disk.end():
            _LOG.info("The disk can be used again")

    def note_database(self) -> None:
        """Note that the database can be used."""
        self._database.end()
