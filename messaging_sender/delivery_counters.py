"""What the resident sender has done so far, and what is in the outbox.

It outlives what delivers the messages, which is created anew each time that there are some.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from idlib.storage.queued import OutboxStore, Waiting
from idlib.system.durations import Durations


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What the resident sender has done at one moment.

    Args:
        delivered: How many messages the broker has acknowledged.
        dropped: How many messages were dropped.
        is_connected: Whether there is a connection to the broker.
    """

    delivered: int
    dropped: int
    is_connected: bool


@dataclass(frozen=True, slots=True)
class Content:
    """What is in the outbox at one moment.

    Args:
        waiting: How many messages, and since when.
        size: How many bytes they take, as counted for the limit.
    """

    waiting: Waiting
    size: int


NOTHING: Final = Content(Waiting(0, None), 0)


class DeliveryCounters:
    """Counts what the resident sender does. For any number of threads."""

    def __init__(self) -> None:
        self.durations = Durations()
        self._lock = threading.Lock()
        self._delivered = 0
        self._dropped = 0
        self._is_connected = False
        self._outbox: OutboxStore | None = None
        self._content: Content | None = None

    def count_delivered(self) -> None:
        """Count a message that the broker has acknowledged."""
        with self._lock:
            self._delivered += 1

    def count_dropped(self) -> None:
        """Count a message that was dropped."""
        with self._lock:
            self._dropped += 1

    def note_connection(self, *, is_connected: bool) -> None:
        """Note whether there is a connection to the broker.

        Args:
            is_connected: Whether there is one.
        """
        with self._lock:
            self._is_connected = is_connected

    @contextlib.contextmanager
    def reading(self, outbox: OutboxStore) -> Iterator[None]:
        """Let `content` read an outbox that this process has open anyway; afterwards the content is unknown.

        Args:
            outbox: A process must not open a file twice: closing one of the two would end the locks of the other.
        """
        with self._lock:
            self._outbox = outbox
        try:
            yield
        finally:
            with self._lock:
                self._outbox = self._content = None

    def note_empty(self) -> None:
        """Note that the outbox is empty."""
        with self._lock:
            self._content = NOTHING

    def note_unknown(self) -> None:
        """Note that the outbox cannot be read."""
        with self._lock:
            self._content = None

    def content(self) -> Content | None:
        """Return what is in the outbox; None if that is not known.

        Raises:
            StoreError: The outbox cannot be read.
        """
        with self._lock:
            if self._outbox is None:
                return self._content
            return Content(self._outbox.waiting(), self._outbox.size())

    def read(self) -> Deliveries:
        """Return all numbers at one moment."""
        with self._lock:
            return Deliveries(self._delivered, self._dropped, self._is_connected)
