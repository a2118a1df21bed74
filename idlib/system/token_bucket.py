"""A token bucket: allows a burst of actions, and then one per interval."""

import math


class TokenBucket:
    """A bucket that starts full; used by one thread at a time.

    Args:
        burst: How many actions are allowed at once, at least 1.
        seconds_per_token: After how many seconds one more is allowed.
    """

    def __init__(self, burst: int, seconds_per_token: float) -> None:
        self._seconds_per_token = seconds_per_token
        self._seconds_to_spend = (burst - 1) * seconds_per_token
        # A time instead of a number of tokens, so that many small steps of the clock add up exactly.
        self._full_at = -math.inf

    def has_token(self, now: float) -> bool:
        """Return whether an action is allowed now.

        Args:
            now: Seconds on a clock that never goes back.
        """
        return self._full_at - now <= self._seconds_to_spend

    def next_token_at(self, now: float) -> float:
        """Return when an action is allowed next: now, or a later time on the same clock.

        Args:
            now: Seconds on the same clock.
        """
        return max(now, self._full_at - self._seconds_to_spend)

    def take(self, now: float) -> bool:
        """Return whether an action is allowed now, and count it if it is.

        Args:
            now: Seconds on the same clock.
        """
        is_allowed = self.has_token(now)
        if is_allowed:
            self._full_at = max(self._full_at, now) + self._seconds_per_token
        return is_allowed
