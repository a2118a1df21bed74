"""Our own clock: what it shows, how far that can be trusted, and how long the system has run."""

import time
from collections.abc import Callable
from typing import Final

from idlib import clock
from idlib.storage import ReplayStore
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS, Moment

_SYNCHRONIZATION_SECONDS: Final = 1.0
_ELAPSED: Final = "elapsed"


def _system_time() -> float:
    return time.time()


class Timekeeper:
    """Judges our clock by the latest time that was recorded and by what the kernel says of it.

    Args:
        store: Where the latest time is recorded.
        wall_clock: Seconds since the epoch.
        boot_clock: Seconds since the system was started, those in which it slept included.
    """

    def __init__(
        self,
        store: ReplayStore,
        wall_clock: Callable[[], float] = _system_time,
        boot_clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._store = store
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._boot = clock.boot()
        self._synchronized_until = -1.0
        self._is_synchronized = False
        self._elapsed_before = self._read_elapsed()

    def moment(self) -> Moment:
        """Return what the clock shows, and how far that can be trusted."""
        now = self._wall_clock()
        latest = max(EARLIEST_CREDIBLE_TIME, self._store.latest_time)
        return Moment(now, now >= latest, now > latest + MAX_MESSAGE_AGE_SECONDS, self._may_be_late())

    def elapsed(self) -> float:
        """Return for how many seconds the system has run since the store was made; the clock has no part in it."""
        return self._elapsed_before + self._boot_clock()

    def confirm(self, moment: Moment) -> None:
        """Trust a clock that is far ahead, for a message of a proven sender is fresh by it.

        Args:
            moment: What the clock showed when the message was authenticated.

        Raises:
            StoreError: The store cannot be written.
        """
        if moment.may_be_ahead:
            self._store.note_time(int(moment.now))

    def record(self) -> Moment | None:
        """Record the time, unless the clock may be wrong; return what it shows, or None if it may be.

        Raises:
            StoreError: The store cannot be written.
        """
        self._store.set_fact(_ELAPSED, f"{self._boot} {self._boot_clock():.0f} {self.elapsed():.0f}")
        moment = self.moment()
        if not moment.is_set or moment.may_be_ahead:
            return None
        if not moment.may_be_late:
            self._store.trust_clock_since(self._boot)
        self._store.note_time(int(moment.now))
        return moment

    def _may_be_late(self) -> bool:
        if self._store.boot in {"", self._boot}:
            return False
        now = self._boot_clock()
        if now >= self._synchronized_until:
            self._is_synchronized = clock.is_synchronized()
            self._synchronized_until = now + _SYNCHRONIZATION_SECONDS
        return not self._is_synchronized

    def _read_elapsed(self) -> float:
        """Return the seconds that earlier starts of the system add to those since the present one."""
        kept = self._store.fact(_ELAPSED, f"{self._boot} {self._boot_clock():.0f} 0")
        boot, boot_seconds, elapsed = kept.rsplit(" ", 2)
        return float(elapsed) - float(boot_seconds) if boot == self._boot else float(elapsed)
