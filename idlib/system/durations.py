"""How long look-ups took: counted, so that a service can report it."""

import bisect
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# From a resolver on the same machine to the longest time-out.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Outcome(StrEnum):
    """Whether DNS gave an answer, which may be that there are no records."""

    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Spread:
    """How many look-ups took how long.

    Args:
        counts: How many took at most as long as each of BOUNDS, and longer than the bound before; then the rest.
        seconds: How long all of them took together.
    """

    counts: tuple[int, ...]
    seconds: float


class Durations:
    """How long look-ups took, by outcome. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {outcome: [0] * (len(BOUNDS) + 1) for outcome in Outcome}
        self._seconds = dict.fromkeys(Outcome, 0.0)

    def note(self, outcome: Outcome, seconds: float) -> None:
        """Count a look-up.

        Args:
            outcome: Whether DNS answered.
            seconds: How long that took.
        """
        with self._lock:
            self._counts[outcome][bisect.bisect_left(BOUNDS, seconds)] += 1
            self._seconds[outcome] += seconds

    def read(self) -> dict[Outcome, Spread]:
        """Return the numbers of both outcomes at one moment."""
        with self._lock:
            return {outcome: Spread(tuple(self._counts[outcome]), self._seconds[outcome]) for outcome in Outcome}
