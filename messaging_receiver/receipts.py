"""Confirms to senders who ask for it that their message is printed: beside the pipeline, and never in its way."""

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

# Of proven senders, and as many again of strangers.
MAX_REQUESTS: Final = 256
BURST: Final = 20
SECONDS_PER_RECEIPT: Final = 1.0
# All strangers of one zone together.
ZONE_BURST: Final = 20
ZONE_SECONDS_PER_RECEIPT: Final = 0.5
# All strangers together: each receipt costs an operation with our private key, about 1 ms on a laptop, 10 ms on a small
# device.
STRANGERS_BURST: Final = 40
STRANGERS_SECONDS_PER_RECEIPT: Final = 0.2
MAX_SENDERS: Final = 1024
# For as long as send_message.py can wait for one.
RECEIPT_LIFETIME_SECONDS: Final = 86400
_BROKER_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 30.0
_SHORTEST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """What a message's sender wants to have confirmed.

    Args:
        sender: Who has signed the message.
        identifier: The message's.
    """

    sender: IdentityName
    identifier: str


def requested(message: UnverifiedMessage) -> ReceiptRequest | None:
    """Return the receipt that a message asks for, None where it asks for none.

    Args:
        message: Whose signature has verified.
    """
    if message.binding is None or not message.asks_for_receipt:
        return None
    return ReceiptRequest(message.sender, message.binding.identifier)


class Rates:
    """How often each sender, or each zone, is answered. Past MAX_SENDERS the one unused for longest is forgotten.

    Args:
        burst: How many answers at once.
        seconds_per_receipt: After how many seconds one more.
    """

    def __init__(self, burst: int, seconds_per_receipt: float) -> None:
        self._burst = burst
        self._seconds_per_receipt = seconds_per_receipt
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, key: str, now: float) -> bool:
        """Return whether a sender or a zone may be answered now, and count it if it may.

        Args:
            key: Its name.
            now: Seconds on a clock that never goes back.
        """
        bucket = self._buckets.pop(key, None) or TokenBucket(self._burst, self._seconds_per_receipt)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_SENDERS:
            self._buckets.popitem(last=False)
        return bucket.take(now)


class Requests:
    """The receipts that are asked for: those of proven senders first, then those of strangers.

    Strangers share their places and their rates with each other alone. What exceeds them is dropped.

    Args:
        is_proven: Tells whether a sender is proven, from the thread that asks; must be quick and not raise.
        zone_of: Returns the zone of a sender's name, whose names share a rate.
        clock: Seconds that never go back.
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
        """Add a request, or drop it; never waits.

        Args:
            request: Of a message that is printed.
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
            timeout: Seconds; None for no end.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: self._of_proven or self._of_strangers, timeout)
            requests = self._of_proven or self._of_strangers
            return requests.popleft() if requests else None

    def clear(self) -> None:
        """Drop all."""
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
    """Writes receipts from a thread of its own, and drops what it cannot write soon: senders live without.

    Args:
        broker: Where they are published.
        own_name: Who confirms.
        key: Returns our own present private key.
        discovery: Knows the senders' certificates, for their signatures have been verified.
        is_proven: Tells whether a sender is proven; called by `ask`, must be quick and not raise.
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
        """Begin to write what is asked for, until the process ends."""
        threading.Thread(target=self._work, name="Receipts", daemon=True).start()

    def ask(self, request: ReceiptRequest) -> None:
        """Have a receipt written for a message that is printed, and durably known to be; never waits.

        Args:
            request: Of the message.
        """
        self._requests.put(request)

    def _work(self) -> None:
        while True:
            request = self._requests.get()
            try:
                with Publisher(self._broker, _BROKER_SECONDS) as publisher:
                    self._answer_all(request, publisher)
            except TransportError as error:
                # Of a broker that is away, the subscription's lines tell more.
                if self._outage.cause is None:
                    self._outage.begin(f"Receipts are dropped: {error}")
                self._back_off()
            except Exception:  # noqa: BLE001  # an error of ours must not end what later messages ask for
                _LOG.exception("Internal error while sending a receipt")

    def _back_off(self) -> None:
        """Drop what is asked for, whose senders would not wait so long, and pause, longer each time."""
        self._requests.clear()
        time.sleep(self._backoff.next_pause())

    def _answer_all(self, first: ReceiptRequest | None, publisher: Publisher) -> None:
        """Answer as long as there is something to answer, with as many receipts under way as the broker takes.

        Raises:
            TransportError: The broker does not acknowledge them.
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
        """Wait until the broker has said what becomes of a receipt, which it may have refused."""
        with contextlib.suppress(RefusedMessageError, NoSubscriberError):
            publisher.wait(publication)
        self._outage.end()
        self._backoff.reset()
