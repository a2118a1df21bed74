"""How long to pause before something that has failed is tried again."""

import random


class Backoff:
    """Pauses that double up to a bound, each with a part that is left to chance; used by one thread at a time.

    Without that part a fleet would come back all at once, and overload what it has just been waiting for.

    Args:
        shortest: Seconds of the first pause, at most.
        longest: Seconds of the longest pause, at most.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._seconds = shortest

    def next_pause(self) -> float:
        """Return for how many seconds to pause now; the next pause will be twice as long."""
        pause = self._seconds * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
        self._seconds = min(self._seconds * 2, self._longest)
        return pause

    def reset(self) -> None:
        """Begin with the shortest pause again: what was tried has worked."""
        self._seconds = self._shortest

    def give_way(self) -> None:
        """Make the next pause the longest: trying soon would do harm."""
        self._seconds = self._longest
