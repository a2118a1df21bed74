"""Confirms to senders who ask for it that their message is printed: beside the pipeline, and never in its way."""

import contextlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery, Found
from idlib.envelope import Binding, UnverifiedMessage, seal_receipt
from idlib.errors import IdlibError, MessageError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.names import IdentityName
from idlib.transport import Broker, Publisher

_LOG = logging.getLogger(__name__)

MAX_REQUESTS: Final = 256
# Of each sender: so many at once, and one more each second.
BURST: Final = 10
MAX_SENDERS: Final = 1024
# For as long as send_message.py can wait for one.
RECEIPT_LIFETIME_SECONDS: Final = 86400
_BROKER_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 10.0


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


class Rate:
    """How often each sender is answered; the senders of longest ago are forgotten where there are many.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._allowances: OrderedDict[IdentityName, tuple[float, float]] = OrderedDict()

    def allows(self, sender: IdentityName) -> bool:
        """Return whether a sender may be answered now, and count that it is.

        Args:
            sender: Whose request it is.
        """
        now = self._clock()
        allowance, counted_at = self._allowances.pop(sender, (float(BURST), now))
        allowance = min(BURST, allowance + now - counted_at)
        is_allowed = allowance >= 1
        self._allowances[sender] = (allowance - 1 if is_allowed else allowance, now)
        if len(self._allowances) > MAX_SENDERS:
            self._allowances.popitem(last=False)
        return is_allowed


class Receipts:
    """Writes receipts from a thread of its own, and drops what it cannot write soon: senders live without.

    Args:
        broker: Where they are published.
        own_name: Who confirms.
        key: Returns our own present private key.
        discovery: Knows the senders' certificates, for their signatures have been verified.
    """

    def __init__(
        self, broker: Broker, own_name: IdentityName, key: Callable[[], PrivateKey], discovery: Discovery
    ) -> None:
        self._broker = broker
        self._own_name = own_name
        self._key = key
        self._discovery = discovery
        self._rate = Rate()
        self._requests: queue.Queue[ReceiptRequest] = queue.Queue(MAX_REQUESTS)

    def start(self) -> None:
        """Begin to write what is asked for, until the process ends."""
        threading.Thread(target=self._work, name="Receipts", daemon=True).start()

    def ask(self, request: ReceiptRequest) -> None:
        """Have a receipt written for a message that is printed, and durably known to be; never waits.

        Args:
            request: Of the message.
        """
        with contextlib.suppress(queue.Full):
            self._requests.put_nowait(request)

    def _work(self) -> None:
        while True:
            first = self._requests.get()
            try:
                with Publisher(self._broker, _BROKER_SECONDS) as publisher:
                    self._answer_all(first, publisher)
            except TransportError as error:
                _LOG.debug("receipts are dropped: %s", error)
                self._drop_all()
                time.sleep(_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001  # an error of ours must not end what later messages ask for
                _LOG.exception("A receipt met an error of this program")

    def _answer_all(self, first: ReceiptRequest, publisher: Publisher) -> None:
        """Answer as long as there is something to answer."""
        request = first
        with contextlib.suppress(queue.Empty):
            while True:
                self._answer(request, publisher)
                request = self._requests.get(timeout=_IDLE_SECONDS)

    def _answer(self, request: ReceiptRequest, publisher: Publisher) -> None:
        found = self._discovery.peek(request.sender)
        if not isinstance(found, Found) or not self._rate.allows(request.sender):
            return
        try:
            payload = seal_receipt(
                request.identifier,
                sender=self._own_name,
                signing_key=self._key(),
                encryption_key=found.records[0].public_key,
                binding=Binding.new(request.sender, int(time.time()), RECEIPT_LIFETIME_SECONDS),
            )
        except IdlibError as error:
            _LOG.debug("no receipt to %s: %s", request.sender, error)
            return
        with contextlib.suppress(MessageError, RefusedMessageError, NoSubscriberError):
            publisher.wait(publisher.publish(str(request.sender), payload, RECEIPT_LIFETIME_SECONDS))

    def _drop_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._requests.get_nowait()
