"""When a step of a rotation is safe (docs/protocol.md, "Changing the key"), measured by clocks that may jump."""

import time
from dataclasses import dataclass
from typing import Final

from idlib.errors import ClockError
from idlib.system import clock
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS

# A name server has copies that it does not list, and a cache may round up.
PROPAGATION_SECONDS: Final = 300
SHORTEST_OVERLAP_SECONDS: Final = 3600
# A message stays at the broker for 7 days, and its sender may have cached the record for an hour beyond its TTL.
OLD_KEY_SECONDS: Final = 7 * 24 * 3600 + 2 * 3600
# Recipients accept a message for 14 days, and allow for 5 minutes between the clocks.
OLD_RECORD_SECONDS: Final = MAX_MESSAGE_AGE_SECONDS + 300
# The receiver looks for new key files every 3 s.
RELOAD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Instant:
    """A point in time, by two clocks.

    Args:
        wall: Seconds since the epoch.
        boot: Which start of the system the next number counts from; empty if that is unknown.
        up: Seconds since that start, those in which the system slept included.
    """

    wall: float
    boot: str
    up: float

    @classmethod
    def now(cls) -> "Instant":
        """Return the present.

        Raises:
            ClockError: The clock of the system is not set, so no waiting time can be measured across a restart.
        """
        wall = time.time()
        if wall < EARLIEST_CREDIBLE_TIME:
            raise ClockError("the clock of this device is not set", "wait for its time server, or set it")
        return cls(wall, clock.boot(), time.clock_gettime(time.CLOCK_BOOTTIME))

    def seconds_since(self, earlier: "Instant") -> float:
        """Return how much time has passed at least.

        A clock that is set forward must not shorten a waiting time, so within one start of the system the smaller of
        both differences counts.

        Args:
            earlier: The instant to count from.
        """
        by_wall = self.wall - earlier.wall
        if self.boot and self.boot == earlier.boot:
            return min(by_wall, self.up - earlier.up)
        return by_wall


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
