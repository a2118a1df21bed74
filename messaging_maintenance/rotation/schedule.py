"""When a step of a rotation is safe (docs/protocol.md, "Changing the key"), measured by clocks that may jump."""

import math
import time
from dataclasses import dataclass
from typing import Final

from idlib.errors import ClockError
from idlib.system import clock
from idlib.timekeeping import SETTLING_SECONDS
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS

# A name server has copies that it does not list, and a cache may round up.
PROPAGATION_SECONDS: Final = 300
SHORTEST_OVERLAP_SECONDS: Final = 3600
# A message stays at the broker for 7 days, and its sender may have cached the record for an hour beyond its TTL.
OLD_KEY_SECONDS: Final = 7 * 24 * 3600 + 2 * 3600
# Recipients accept a message for 14 days, and allow for 5 minutes between the clocks.
OLD_RECORD_SECONDS: Final = MAX_MESSAGE_AGE_SECONDS + 300
# What a single record's TTL is lowered to before the record is replaced.
LOWERED_TTL: Final = 60
# The receiver looks for new key files every 3 s.
RELOAD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time, by two clocks.

    Args:
        wall: Seconds since the epoch.
        boot: Which start of the system the next number counts from; empty if that is unknown.
        up: Seconds since that start, those in which the system slept included.
        is_set: Whether the clock of the system has been set since that start, or the system has run for a day.
    """

    wall: float
    boot: str
    up: float
    is_set: bool = True

    @classmethod
    def now(cls) -> "Instant":
        """Return the present.

        Raises:
            ClockError: The clock of the system is not set, so no waiting time can be measured across a restart.
        """
        wall = time.time()
        if wall < EARLIEST_CREDIBLE_TIME:
            raise ClockError("the clock of this device is not set", "wait for its time server, or set it")
        up = time.clock_gettime(time.CLOCK_BOOTTIME)
        return cls(wall, clock.boot(), up, up >= SETTLING_SECONDS or clock.is_synchronized())

    def seconds_since(self, earlier: "Instant") -> float:
        """Return how much time has passed at least.

        A clock that is set, forward or back, must change no waiting time, so within one start of the system only the
        seconds of that start count. Across starts the clock counts; but if it was not set in both, only the seconds
        of the later start are certain.

        Args:
            earlier: The instant to count from.
        """
        by_wall = self.wall - earlier.wall
        if self._is_in_the_start_of(earlier):
            return self.up - earlier.up
        return by_wall if self.is_set and earlier.is_set else min(by_wall, self.up)

    def recount(self, earlier: "Instant") -> "Instant":
        """Return an instant from which as much time has passed as from an earlier one, by the clock as it is set now.

        Otherwise a time that only a wrong clock has shown would be waited for after the next start of the system.

        Args:
            earlier: The instant to count from.
        """
        passed = self.seconds_since(earlier)
        if not self.is_set or not (self._is_in_the_start_of(earlier) or passed < 0 or not earlier.is_set):
            return earlier
        passed = max(0.0, passed)
        return Instant(self.wall - passed, self.boot, self.up - passed)

    def running_seconds_since(self, earlier: "Instant") -> float:
        """Return for how long the system has certainly run since then, whatever its clock was set to.

        After another start of the system, these are at most the seconds of this start. A clock can only make them
        fewer: a backup that is restored on a system that has run for months must not count those.

        Args:
            earlier: The instant to count from.
        """
        if self._is_in_the_start_of(earlier):
            return self.up - earlier.up
        if not self.boot or not earlier.boot:
            return 0.0
        return max(0.0, min(self.wall - earlier.wall, self.up))

    def _is_in_the_start_of(self, earlier: "Instant") -> bool:
        return bool(self.boot) and self.boot == earlier.boot and self.up >= earlier.up


@dataclass(frozen=True, slots=True)
class RunningTime:
    """For how long the system has run since a stage was reached, added up over its starts.

    Args:
        seconds: The time.
        until: When it was noted.

    Raises:
        ValueError: It is not a number of seconds.
    """

    seconds: float
    until: Instant

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"a running time of {self.seconds} s")

    def at(self, now: Instant) -> "RunningTime":
        """Return the running time at a later moment.

        Args:
            now: The moment.
        """
        return RunningTime(self.seconds + now.running_seconds_since(self.until), now)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each step has to wait, in seconds.

    Args:
        speed: What waiting times are divided by; 1 except in tests. A TTL is never divided.
    """

    speed: int = 1

    def until_switch(self, ttl: int) -> float:
        """Return how long both records are published before the new key signs.

        Args:
            ttl: For how long caches may keep the old set.
        """
        return max(SHORTEST_OVERLAP_SECONDS / self.speed, self.until_known(ttl))

    def until_known(self, ttl: int) -> float:
        """Return after how long no cache holds what a name server had before.

        Args:
            ttl: Of what it had.
        """
        return ttl + PROPAGATION_SECONDS / self.speed

    def until_withdrawal(self) -> float:
        """Return how long the old record stays after its key has signed for the last time."""
        return OLD_RECORD_SECONDS / self.speed

    def until_destruction(self, ttl: int) -> float:
        """Return how long the old private key stays after its record has left the name servers.

        Args:
            ttl: Of the removed record.
        """
        return self.until_known(ttl) + OLD_KEY_SECONDS / self.speed
