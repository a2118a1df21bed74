"""Sends receipts to senders that ask for them, in a thread of its own, so that receipts never delay messages."""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from idlib.algorithms import PrivateKey, PublicKey
from idlib.discovery import Discovery, Found
from idlib.envelope import Binding, seal_receipt
from idlib.errors import IdlibError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.marks import Mark
from idlib.names import IdentityName
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.transport import Broker, Publication, Publisher
from messaging_receiver.receipt_keys import ReceiptKeys
from messaging_receiver.receipt_requests import RECEIPT_LIFETIME_SECONDS, PreparedReceipt, ReceiptRequest, Requests

if TYPE_CHECKING:
    # Imported when the first marked sender asks for a receipt, because it takes memory.
    from idlib.epochs import IdentifiedEpochKey

_LOG = logging.getLogger(__name__)

_BROKER_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 30.0
_SHORTEST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


class Receipts:
    """Sends receipts from a thread of its own, and drops those that it cannot send soon: they are optional.

    Args:
        broker: Publishes the receipts.
        own_name: The name of this device.
        key: Returns our current private key.
        discovery: Has the senders' records in its cache, because their signatures have just been verified.
        is_proven: Returns whether a sender is proven; called by `ask`, must be quick and must not raise.
        zone_of: Returns the zone of a sender's name; called by `ask` for senders that are not proven.
        requires_secrecy: Returns whether what is sent to a name must be encrypted to an epoch key.
        not_sent: Called with a sender that gets no receipt, and why, if the reason is its key; must be quick.
    """

    def __init__(
        self,
        broker: Broker,
        own_name: IdentityName,
        key: Callable[[], PrivateKey],
        discovery: Discovery,
        is_proven: Callable[[IdentityName], bool],
        zone_of: Callable[[IdentityName], str],
        requires_secrecy: Callable[[IdentityName], bool],
        not_sent: Callable[[IdentityName, str], None],
    ) -> None:
        self._broker = broker
        self._own_name = own_name
        self._key = key
        self._discovery = discovery
        self._requires_secrecy = requires_secrecy
        self._not_sent = not_sent
        self._requests = Requests(is_proven, zone_of)
        self._keys = ReceiptKeys(discovery, is_proven, self._requests.put_prepared, not_sent)
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

    def _answer_all(self, first: ReceiptRequest | PreparedReceipt | None, publisher: Publisher) -> None:
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
            while under_way and (len(under_way) >= publisher.window or under_way[0].is_answered):
                self._settle(under_way.popleft(), publisher)
            request = self._requests.get(_IDLE_SECONDS)
        for publication in under_way:
            self._settle(publication, publisher)

    def _publish(self, request: ReceiptRequest | PreparedReceipt, publisher: Publisher) -> Publication | None:
        if isinstance(request, PreparedReceipt):
            return self._send(request.request, request.key.key, request.key.life_seconds, publisher)
        sender = request.sender
        found = self._discovery.peek(sender)
        if not isinstance(found, Found):
            return None
        if found.mark is not Mark.UNMARKED:
            # It is sent when its key was looked up, which may take time.
            self._keys.ask(request)
            return None
        if self._requires_secrecy(sender):
            self._not_sent(sender, "it has no epoch keys, and REQUIRE_FORWARD_SECRECY requires them")
            return None
        return self._send(request, found.records[0].public_key, RECEIPT_LIFETIME_SECONDS, publisher)

    def _send(
        self,
        request: ReceiptRequest,
        encryption_key: "PublicKey | IdentifiedEpochKey",
        life_seconds: int,
        publisher: Publisher,
    ) -> Publication | None:
        try:
            payload = seal_receipt(
                request.identifier,
                sender=self._own_name,
                signing_key=self._key(),
                encryption_key=encryption_key,
                binding=Binding.new(request.sender, int(time.time()), life_seconds),
            )
            return publisher.publish(self._broker.topics.of(request.sender), payload, life_seconds)
        except IdlibError as error:
            _LOG.debug("no receipt to %s: %s", request.sender, error)
            return None

    def _settle(self, publication: Publication, publisher: Publisher) -> None:
        """Wait until the broker has acknowledged or rejected a receipt."""
        with contextlib.suppress(RefusedMessageError, NoSubscriberError):
            publisher.wait(publication)
        self._outage.end()
        self._backoff.reset()
