"""Logs the cause of an outage: once, when it changes, and then rarely; remembers the present cause.

Otherwise each retry would log the same line again.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

_AGAIN_SECONDS: Final = 3600.0
STABLE_SECONDS: Final = 10.0
_MAX_FACTS: Final = 64


class FailureLog:
    """Whether something works, and if not, why; used by any number of threads.

    Args:
        log: Receives the causes.
        clock: Seconds that never go back.
        pauses: After how many seconds a lasting cause is logged again: after its first line, after its second, and
            so on; the last pause is repeated.
    """

    def __init__(
        self,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        pauses: Sequence[float] = (_AGAIN_SECONDS,),
    ) -> None:
        self._log = log
        self._clock = clock
        self._pauses = tuple(pauses)
        self._lock = threading.Lock()
        # How often each cause was logged, and when it may be logged again.
        self._logged: dict[str, tuple[int, float]] = {}
        self._works_since: float | None = None
        self._cause: str | None = None

    @property
    def cause(self) -> str | None:
        """Why it does not work, or None."""
        return self._cause

    @property
    def is_stable(self) -> bool:
        """Whether it has worked long enough for the next failure to be a new outage."""
        with self._lock:
            return self._works_for_long()

    def begin(self, cause: str, detail: str = "") -> bool:
        """Note that it does not work; log the cause unless it was logged recently in this outage.

        Args:
            cause: One line.
            detail: Follows the cause in the log; a different detail does not make the cause a new one.

        Returns:
            Whether the cause was logged.
        """
        with self._lock:
            if self._works_for_long() or len(self._logged) >= _MAX_FACTS:
                self._logged.clear()
            self._works_since = None
            self._cause = cause
            now = self._clock()
            times, again_at = self._logged.get(cause, (0, now))
            is_due = now >= again_at
            if is_due:
                pause = self._pauses[min(times, len(self._pauses) - 1)]
                self._logged[cause] = (times + 1, now + pause)
        if is_due:
            self._log.warning("%s%s", cause, detail)
        return is_due

    def end(self) -> bool:
        """Note that it works, and return whether it did not before."""
        with self._lock:
            has_ended, self._cause = self._cause is not None, None
            if self._works_since is None:
                self._works_since = self._clock()
            return has_ended

    def _works_for_long(self) -> bool:
        return self._works_since is not None and self._clock() - self._works_since >= STABLE_SECONDS
