"""Records the time and obeys `--trust-clock` while the receiver waits for its own record."""

import logging
import time
from typing import Final

from idlib.errors import StoreError
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import keep_clock
from messaging_receiver.context import Context

_LOG = logging.getLogger(__name__)

_UPKEEP_SECONDS: Final = 10.0


class ClockUpkeep:
    """Records the time and obeys `--trust-clock` every 10 s.

    Args:
        context: The receiver's context.
    """

    def __init__(self, context: Context) -> None:
        self._timekeeper = context.timekeeper
        self._directory = context.settings.data_path
        self._outage = FailureLog(_LOG)
        self._due_at = time.monotonic()

    def keep(self) -> None:
        """Record the time and obey the operator's command, if the last time was at least 10 s ago."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + _UPKEEP_SECONDS
        try:
            keep_clock(self._timekeeper, self._directory)
        except StoreError as error:
            self._outage.begin(f"The time cannot be recorded: {error}")
        else:
            self._outage.end()
