"""How many messages the receiver has received, printed and refused."""

import threading
from collections import Counter
from collections.abc import Iterable

from idlib.envelope import SealedTo
from idlib.errors import Reason


class Counters:
    """How many messages were received, printed, refused and why, and set aside; each is counted once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._printed: Counter[SealedTo] = Counter()
        self._refused: Counter[Reason] = Counter()
        self._set_aside = 0

    def count_received(self) -> None:
        """Count a message that arrived."""
        with self._lock:
            self._received += 1

    def count_printed(self, sealed_to: Iterable[SealedTo]) -> None:
        """Count messages that were printed.

        Args:
            sealed_to: The kind of key that each was encrypted to.
        """
        with self._lock:
            self._printed.update(sealed_to)

    def count_set_aside(self, number: int) -> None:
        """Count messages that could not be delivered.

        Args:
            number: How many.
        """
        if number:
            with self._lock:
                self._set_aside += number

    def count_refused(self, reason: Reason) -> None:
        """Count a message that was refused."""
        with self._lock:
            self._refused[reason] += 1

    def __str__(self) -> str:
        with self._lock:
            reasons = "".join(f" refused_{reason}={number}" for reason, number in sorted(self._refused.items()))
            total = sum(self._refused.values())
            sealed = " ".join(f"sealed_{kind}={self._printed[kind]}" for kind in SealedTo)
            counts = f"received={self._received} printed={self._printed.total()} refused={total}{reasons} {sealed}"
            return f"{counts} set_aside={self._set_aside}" if self._set_aside else counts
