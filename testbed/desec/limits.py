"""The limits of deSEC: TTLs, the length of a record, and the number of requests."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from testbed.desec.exchange import RejectionError

MINIMUM_TTL: Final = 3600
MAXIMUM_TTL: Final = 86_400
MAX_RDATA_BYTES: Final = 64_000
# Requests and seconds of each limit, by what they limit.
LIMITS: Final[Mapping[str, Sequence[tuple[int, int]]]] = {
    "dns_api_cheap": ((10, 1), (50, 60)),
    "dns_api_per_domain_expensive": ((2, 1), (15, 60), (100, 3600), (300, 86_400)),
    "account_management_passive": ((50, 60), (600, 3600)),
    "user": ((2000, 86_400),),
}


class Throttle:
    """Counts requests in sliding windows.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, int], deque[float]] = defaultdict(deque)

    def count(self, scope: str, bucket: str = "") -> None:
        """Count a request in all windows of its scope and of the user, unless one of them is full.

        Args:
            scope: What is limited, one of LIMITS.
            bucket: Within the scope, each bucket is limited on its own.

        Raises:
            RejectionError: A window is full.
        """
        now = self._clock()
        for one, place in ((scope, f"{scope} {bucket}"), ("user", "user")):
            windows = [(number, seconds, self._windows[place, seconds]) for number, seconds in LIMITS[one]]
            for number, seconds, window in windows:
                while window and window[0] <= now - seconds:
                    window.popleft()
                if len(window) >= number:
                    wait = math.ceil(window[0] + seconds - now)
                    unit = "second" if wait == 1 else "seconds"
                    raise RejectionError(
                        429,
                        {"detail": f"Request was throttled. Expected available in {wait} {unit}."},
                        {"Retry-After": str(wait)},
                    )
            for _, _, window in windows:
                window.append(now)
