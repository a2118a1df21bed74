"""Sends receipts to senders that ask for them, in a thread of its own, so that receipts never delay messages."""

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery, Found
from idlib.envelope import Binding, UnverifiedMessage, seal_receipt
from idlib.errors import IdlibError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.names import IdentityName
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.system.token_bucket import TokenBucket
from idlib.transport import Broker, Publication, Publisher

_LOG = logging.getLogger(__name__)

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
_BROKER_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 30.0
_SHORTEST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """A request for a receipt.

    Args:
        sender: The sender of the message.
        identifier: The message's id (`jti`).
    """

    sender: IdentityName
    identifier: str


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
    """Pending requests for receipts: those of proven senders first, then those of strangers.

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

    def get(self, timeout: float | None = None) -> ReceiptRequest | None:
        """Return the next request, or None if none comes in time.

        Args:
            timeout: Seconds to wait; None to wait until there is one.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: self._of_proven or self._of_strangers, timeout)
            requests = self._of_proven or self._of_strangers
            return requests.popleft() if requests else None

    def clear(self) -> None:
        """Drop all requests."""
        with self._arrival:
            self._of_proven.clear()
            self._of_strangers.clear()

    def __len__(self) -> int:
        with self._arrival:
            return len(self._of_proven) + len(self._of_strangers)

    def _allow_proven(self, sender: IdentityName, now: float) -> bool:
        return self._proven.allow(str(sender), now)

    def _allow_stranger(self, sender: IdentityName, now: float) -> bool:
        return (
            self._strangers.allow(str(sender), now)
            and self._zones.allow(self._zone_of(sender), now)
            and self._all_strangers.take(now)
        )


class Receipts:
    """Sends receipts from a thread of its own, and drops those that it cannot send soon: they are optional.

    Args:
        broker: Publishes the receipts.
        own_name: The name of this device.
        key: Returns our current private key.
        discovery: Has the senders' records in its cache, because their signatures have just been verified.
        is_proven: Returns whether a sender is proven; called by `ask`, must be quick and must not raise.
        zone_of: Returns the zone of a sender's name; called by `ask` for senders that are not proven.
    """

    def __init__(
        self,
        broker: Broker,
        own_name: IdentityName,
        key: Callable[[], PrivateKey],
        discovery: Discovery,
        is_proven: Callable[[IdentityName], bool],
        zone_of: Callable[[IdentityName], str],
    ) -> None:
        self._broker = broker
        self._own_name = own_name
        self._key = key
        self._discovery = discovery
        self._requests = Requests(is_proven, zone_of)
        self._outage = FailureLog(_LOG)
        self._backoff = Backoff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)

    def start(self) -> None:
        """Start the thread that sends receipts until the process ends."""
        threading.Thread(target=self._work, name="Receipts", daemon=True).start()

    def ask(self, request: ReceiptRequest) -> None:
        """Request the receipt for a message that has been printed and recorded; never waits.

        Args:
            request: The request of the message.
        """
        self._requests.put(request)

    def _work(self) -> None:
        while True:
            request = self._requests.get()
            try:
                with Publisher(self._broker, _BROKER_SECONDS) as publisher:
                    self._answer_all(request, publisher)
            except TransportError as error:
                # Logged once per outage: the subscription logs more about the connection to the broker.
                if self._outage.cause is None:
                    self._outage.begin(f"Receipts are dropped: {error}")
                self._back_off()
            except Exception:  # noqa: BLE001  # one internal error must not end the thread
                _LOG.exception("Internal error while sending a receipt")

    def _back_off(self) -> None:
        """Drop all requests, whose senders would not wait that long, and pause, longer each time."""
        self._requests.clear()
        time.sleep(self._backoff.next_pause())

    def _answer_all(self, first: ReceiptRequest | None, publisher: Publisher) -> None:
        """Send receipts while there are requests, with as many under way at a time as the broker accepts.

        Raises:
            TransportError: The broker does not acknowledge the receipts.
        """
        under_way: deque[Publication] = deque()
        request = first
        while request is not None:
            publication = self._publish(request, publisher)
            if publication is not None:
                under_way.append(publication)
            while under_way and (len(under_way) >= publisher.window or publisher.is_answered(under_way[0])):
                self._settle(under_way.popleft(), publisher)
            request = self._requests.get(_IDLE_SECONDS)
        for publication in under_way:
            self._settle(publication, publisher)

    def _publish(self, request: ReceiptRequest, publisher: Publisher) -> Publication | None:
        found = self._discovery.peek(request.sender)
        if not isinstance(found, Found):
            return None
        try:
            payload = seal_receipt(
                request.identifier,
                sender=self._own_name,
                signing_key=self._key(),
                encryption_key=found.records[0].public_key,
                binding=Binding.new(request.sender, int(time.time()), RECEIPT_LIFETIME_SECONDS),
            )
            return publisher.publish(str(request.sender), payload, RECEIPT_LIFETIME_SECONDS)
        except IdlibError as error:
            _LOG.debug("no receipt to %s: %s", request.sender, error)
            return None

    def _settle(self, publication: Publication, publisher: Publisher) -> None:
        """Wait until the broker has acknowledged or rejected a receipt."""
        with contextlib.suppress(RefusedMessageError, NoSubscriberError):
            publisher.wait(publication)
        self._outage.end()
        self._backoff.reset()
