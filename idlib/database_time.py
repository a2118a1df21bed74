"""The time for several receivers of a name: it comes from the database, so that all of them have the same."""

import logging
import time
from collections.abc import Callable
from typing import Final

from idlib.errors import ClockError
from idlib.output import rfc3339
from idlib.storage.postgresql.clock import DatabaseClock
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import MAX_DIVERGENCE_SECONDS
from idlib.trust import Moment

_LOG: Final = logging.getLogger(__name__)


class DatabaseTimekeeper:
    """A time source by the database's clock, which is always trusted: `idlib.time_source.TimeSource`.

    Args:
        clock: The database's clock.
        wall_clock: Returns what this machine's clock shows, in seconds since the epoch.
    """

    def __init__(self, clock: DatabaseClock, wall_clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._difference = FailureLog(_LOG)
        self._fault = FailureLog(_LOG)
        self._compare()

    def moment(self) -> Moment:
        """Return the time, which is trusted."""
        return Moment(self._clock.now())

    def trusted_time(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.now()

    def credible_time(self) -> int:
        """Return seconds since the epoch."""
        return int(self._clock.now())

    def elapsed(self) -> float:
        """Return seconds since the epoch: unlike the running time of a machine, all receivers have the same."""
        return self._clock.now()

    def record(self) -> Moment:
        """Return the time; nothing needs to be recorded."""
        return self.moment()

    def trust(self) -> None:
        """Reject the operator's command: it is about this machine's clock."""
        _LOG.warning("--trust-clock ignored: with STORE, times come from the database's clock")

    def finish(self) -> None:
        """Do nothing: nothing is recorded."""

    def refresh(self) -> None:
        """Measure the database's clock again, and warn if this machine's clock differs.

        Raises:
            StoreError: The database cannot be used; its time as measured before is used.
        """
        try:
            self._clock.refresh()
        except ClockError as error:
            self._fault.begin(f"The time continues from before: {error}")
        else:
            self._fault.end()
        self._compare()

    def _compare(self) -> None:
        theirs, ours = self._clock.now(), self._wall_clock()
        if abs(theirs - ours) <= MAX_DIVERGENCE_SECONDS:
            self._difference.end()
            return
        self._difference.begin(
            "This machine's clock differs by more than 5 minutes from the database's, which is used",
            f": it shows {rfc3339(int(ours))}, the database's {rfc3339(int(theirs))}; set the one that is wrong",
        )
