"""Requests for receipts: which senders get some, how many, and in which order."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idlib.envelope import UnverifiedMessage
from idlib.names import IdentityName
from idlib.system.token_bucket import TokenBucket

if TYPE_CHECKING:
    # Imported when the first marked sender asks for a receipt, because it takes memory.
    from idlib.epochs.selection import ChosenEpoch

# For proven senders, and the same number again for strangers.
MAX_REQUESTS: Final = 256
BURST: Final = 20
SECONDS_PER_RECEIPT: Final = 1.0
# For all strangers of one zone together.
ZONE_BURST: Final = 20
ZONE_SECONDS_PER_RECEIPT: Final = 0.5
# For all strangers together: each receipt needs an operation with our private key, which takes about 1 ms on a laptop
# and 10 ms on a small device.
STRANGERS_BURST: Final = 40
STRANGERS_SECONDS_PER_RECEIPT: Final = 0.2
MAX_SENDERS: Final = 1024
# The longest time for which send_message.py can wait for a receipt.
RECEIPT_LIFETIME_SECONDS: Final = 86400


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """A request for a receipt.

    Args:
        sender: The sender of the message.
        identifier: The message's id (`jti`).
    """

    sender: IdentityName
    identifier: str


@dataclass(frozen=True, slots=True)
class PreparedReceipt:
    """A receipt to a marked sender whose epoch key has been found.

    Args:
        request: The request for the receipt.
        key: The key.
    """

    request: ReceiptRequest
    key: "ChosenEpoch"


def requested(message: UnverifiedMessage) -> ReceiptRequest | None:
    """Return the receipt that a message asks for; None if it does not ask for one.

    Args:
        message: A message whose signature has been verified.
    """
    if message.binding is None or not message.asks_for_receipt:
        return None
    return ReceiptRequest(message.sender, message.binding.identifier)


class Rates:
    """Limits how many receipts each sender or each zone gets; remembers the MAX_SENDERS most recently used ones.

    Args:
        burst: How many receipts it can get at once.
        seconds_per_receipt: How many seconds until it can get one more.
    """

    def __init__(self, burst: int, seconds_per_receipt: float) -> None:
        self._burst = burst
        self._seconds_per_receipt = seconds_per_receipt
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, key: str, now: float) -> bool:
        """Return whether a sender or a zone may get a receipt now, and count the receipt if so.

        Args:
            key: The name of the sender or zone.
            now: Seconds on a monotonic clock.
        """
        bucket = self._buckets.pop(key, None) or TokenBucket(self._burst, self._seconds_per_receipt)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_SENDERS:
            self._buckets.popitem(last=False)
        return bucket.take(now)


class Requests:
    """Pending requests for receipts: first those whose epoch keys were looked up, then those of proven senders.

    Requests beyond the limits are dropped. Strangers have limits of their own, so they cannot use up those of proven
    senders.

    Args:
        is_proven: Returns whether a sender is proven; called by `put`, must be quick and must not raise.
        zone_of: Returns the zone of a sender's name; strangers of one zone share a rate limit.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        is_proven: Callable[[IdentityName], bool],
        zone_of: Callable[[IdentityName], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_proven = is_proven
        self._zone_of = zone_of
        self._clock = clock
        self._arrival = threading.Condition()
        self._prepared: deque[PreparedReceipt] = deque()
        self._of_proven: deque[ReceiptRequest] = deque()
        self._of_strangers: deque[ReceiptRequest] = deque()
        self._proven = Rates(BURST, SECONDS_PER_RECEIPT)
        self._strangers = Rates(BURST, SECONDS_PER_RECEIPT)
        self._zones = Rates(ZONE_BURST, ZONE_SECONDS_PER_RECEIPT)
        self._all_strangers = TokenBucket(STRANGERS_BURST, STRANGERS_SECONDS_PER_RECEIPT)

    def put(self, request: ReceiptRequest) -> None:
        """Add a request, or drop it if it exceeds a limit; never waits.

        Args:
            request: The request of a printed message.
        """
        is_proven = self._is_proven(request.sender)
        requests = self._of_proven if is_proven else self._of_strangers
        is_allowed = self._allow_proven if is_proven else self._allow_stranger
        with self._arrival:
            if len(requests) < MAX_REQUESTS and is_allowed(request.sender, self._clock()):
                requests.append(request)
                self._arrival.notify()

    def put_prepared(self, prepared: PreparedReceipt) -> None:
        """Add a receipt whose key was looked up, or drop it if too many wait for the broker; never waits.

        Args:
            prepared: The receipt.
        """
        with self._arrival:
            if len(self._prepared) < 2 * MAX_REQUESTS:
                self._prepared.append(prepared)
                self._arrival.notify()

    def get(self, timeout: float | None = None) -> ReceiptRequest | PreparedReceipt | None:
        """Return the next request, or None if none comes in time.

        Args:
            timeout: Seconds to wait; None to wait until there is one.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: self._prepared or self._of_proven or self._of_strangers, timeout)
            if self._prepared:
                return self._prepared.popleft()
            requests = self._of_proven or self._of_strangers
            return requests.popleft() if requests else None

    def clear(self) -> None:
        """Drop all requests."""
        with self._arrival:
            self._prepared.clear()
            self._of_proven.clear()
            self._of_strangers.clear()

    def __len__(self) -> int:
        with self._arrival:
            return len(self._prepared) + len(self._of_proven) + len(self._of_strangers)

    def _allow_proven(self, sender: IdentityName, now: float) -> bool:
        return self._proven.allow(str(sender), now)

    def _allow_stranger(self, sender: IdentityName, now: float) -> bool:
        return (
            self._strangers.allow(str(sender), now)
            and self._zones.allow(self._zone_of(sender), now)
            and self._all_strangers.take(now)
        )
