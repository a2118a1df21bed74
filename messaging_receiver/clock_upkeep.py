"""Records the time and obeys `--trust-clock` while the receiver waits for its own record."""

import logging
import time
from collections.abc import Callable
from typing import Final

from idlib.errors import StoreError
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import keep_clock
from messaging_receiver.context import Context

_LOG = logging.getLogger(__name__)

_UPKEEP_SECONDS: Final = 10.0


class ClockUpkeep:
    """Records the time, obeys `--trust-clock`, and does what depends on the clock, every 10 s.

    Args:
        context: The receiver's context.
        then: Called each time.
    """

    def __init__(self, context: Context, then: Callable[[], None] = lambda: None) -> None:
        self._then = then
        self._timekeeper = context.timekeeper
        self._directory = context.settings.data_path
        self._outage = FailureLog(_LOG)
        self._due_at = time.monotonic()

    def keep(self) -> None:
        """Record the time and do the rest, if the last time was at least 10 s ago."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + _UPKEEP_SECONDS
        try:
            keep_clock(self._timekeeper, self._directory)
        except StoreError as error:
            self._outage.begin(f"The time cannot be recorded: {error}")
        else:
            self._outage.end()
        self._then()
