"""How many messages the receiver has received, printed and refused."""

import threading
from collections import Counter

from idlib.errors import Reason


class Counters:
    """How many messages were received, printed and refused, and why; each is counted once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._printed = 0
        self._refused: Counter[Reason] = Counter()

    def count_received(self) -> None:
        """Count a message that arrived."""
        with self._lock:
            self._received += 1

    def count_printed(self, number: int) -> None:
        """Count messages that were printed."""
        with self._lock:
            self._printed += number

    def count_refused(self, reason: Reason) -> None:
        """Count a message that was refused."""
        with self._lock:
            self._refused[reason] += 1

    def __str__(self) -> str:
        with self._lock:
            reasons = "".join(f" refused_{reason}={number}" for reason, number in sorted(self._refused.items()))
            total = sum(self._refused.values())
            return f"received={self._received} printed={self._printed} refused={total}{reasons}"
