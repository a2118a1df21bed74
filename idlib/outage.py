"""What keeps something from working: logged once and when it changes, then rarely, and kept for whoever asks.

A cause that is met at each retry would otherwise fill the log with the same line.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

_AGAIN_SECONDS: Final = 3600.0
STABLE_SECONDS: Final = 10.0
_MAX_FACTS: Final = 64


class Outage:
    """Whether something works, and if not, why; used by any number of threads.

    Args:
        log: Where causes are written.
        clock: Seconds that never go back.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._works_since: float | None = None
        self._cause: str | None = None

    @property
    def cause(self) -> str | None:
        """Why it does not work, or None."""
        return self._cause

    @property
    def is_stable(self) -> bool:
        """Whether it has worked for some time, so that what comes next is no part of the last outage."""
        with self._lock:
            return self._works_for_long()

    def begin(self, cause: str) -> None:
        """Note that it does not work; written to the log unless the same was written in this outage a short time ago.

        Args:
            cause: One line.
        """
        with self._lock:
            if self._works_for_long() or len(self._logged) >= _MAX_FACTS:
                self._logged.clear()
            self._works_since = None
            self._cause = cause
            now = self._clock()
            is_told = now - self._logged.get(cause, -_AGAIN_SECONDS) < _AGAIN_SECONDS
            if not is_told:
                self._logged[cause] = now
        if not is_told:
            self._log.warning("%s", cause)

    def end(self) -> bool:
        """Note that it works, and return whether it did not before."""
        with self._lock:
            has_ended, self._cause = self._cause is not None, None
            if self._works_since is None:
                self._works_since = self._clock()
            return has_ended

    def _works_for_long(self) -> bool:
        return self._works_since is not None and self._clock() - self._works_since >= STABLE_SECONDS
