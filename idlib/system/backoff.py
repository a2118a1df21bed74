"""How long to pause before a retry, and when it is due."""

import random
import time


class Backoff:
    """Randomized pauses that double up to a limit; used by one thread at a time.

    Without randomness a fleet would reconnect all at once, and overload the server it has been waiting for.

    Args:
        shortest: Seconds of the first pause, at most.
        longest: Seconds of the longest pause, at most.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._seconds = shortest

    def next_pause(self) -> float:
        """Return for how many seconds to pause now; the next pause will be about twice as long."""
        pause = self._seconds * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
        self._seconds = min(self._seconds * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Start with the shortest pause again, after a success."""
        self._seconds = self._shortest

    def give_way(self) -> None:
        """Make the next pause the longest, if an early retry would do harm."""
        self._seconds = self._longest


class RetryTimer:
    """When something may be tried: at once after a success, and later after each failure.

    Args:
        shortest: Seconds of the first pause, at most.
        longest: Seconds of the longest pause, at most.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self._backoff = Backoff(shortest, longest)
        self._due_at = 0.0

    def is_due(self) -> bool:
        """Return whether it may be tried now."""
        return time.monotonic() >= self._due_at

    def fail(self) -> None:
        """Note a failure: the next try is due after a pause."""
        self._due_at = time.monotonic() + self._backoff.next_pause()

    def succeed(self) -> None:
        """Note a success: the next try is due at once."""
        self._due_at = 0.0
        self._backoff.reset()
