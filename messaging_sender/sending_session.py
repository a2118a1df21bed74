"""Sends one message after another over one connection to the broker, for a program that keeps running."""

import logging
import threading
from typing import Self

from idlib.discovery.misplacement import explain_absence
from idlib.errors import NoRecordError, NoSubscriberError
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system.failure_log import FailureLog
from idlib.transport import Broker, Publisher
from messaging_sender.bounds import MAX_RECEIPT_OCTETS
from messaging_sender.mark_memory import MarkMemory
from messaging_sender.reporting import Outcome, SendResult
from messaging_sender.sealed import KeyLog, Sealed
from messaging_sender.sealing import Sealer
from messaging_sender.sender_record import OwnRecord
from messaging_sender.transmission import dropped

_LOG = logging.getLogger(__name__)


class SendingSession:
    """Connects with the first message, and reconnects whenever the connection breaks. Any number of threads may use it.

    Args:
        settings: From the environment.
        timeout: How long the broker may take to accept the connection, in seconds.

    Raises:
        ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        KeyFileError: Our own key is missing or unusable.
    """

    def __init__(self, settings: Settings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._broker = Broker.from_settings(settings)
        self._memory = MarkMemory.from_settings(settings)
        first = Sealer.from_settings(settings, self._memory)
        self._key, self._discovery = first.key, first.discovery
        # Sealers are not made for several threads.
        self._of_thread = threading.local()
        self._own_record = OwnRecord(settings, self._discovery, FailureLog(_LOG))
        self._key_log = KeyLog()
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: NewOutgoingMessage, timeout: float) -> Outcome:
        """Return once the broker has acknowledged a message.

        Args:
            message: The message.
            timeout: How long the broker may take to acknowledge it, in seconds.

        Raises:
            IdlibError: It was not sent, or not acknowledged.
            RuntimeError: The session is closed.
        """
        self._check_open()
        self._own_record.look(self._sealer.key)
        sealed = self._seal(message)
        self._transmit(self._connected(), message, sealed, timeout)
        return Outcome(SendResult.ACKNOWLEDGED, sealed, self._own_record.tell())

    def send_and_confirm(self, message: NewOutgoingMessage, timeout: float) -> Outcome:
        """Return once the recipient has confirmed that it has printed a message.

        It has a connection of its own, which is subscribed to this device's topic only as long as the receipt is
        waited for: other messages to this device would be received and dropped.

        Args:
            message: The message.
            timeout: How long the broker may take to acknowledge it, and then the recipient to confirm it, in seconds.

        Raises:
            IdlibError: It was not sent, or not acknowledged, or not confirmed.
            RuntimeError: The session is closed.
        """
        # Imported late, because few messages need it.
        from messaging_sender.own_halves import check_own_halves
        from messaging_sender.receipt_listener import ReceiptListener

        self._check_open()
        self._own_record.look(self._sealer.key)
        check_own_halves(self._settings, self._discovery)
        sealed = self._seal(message, ask_for_receipt=True)
        receipt = ReceiptListener(self._settings, self._sealer, IdentityName(message.recipient), message.identifier)
        with Publisher(self._broker, self._timeout, MAX_RECEIPT_OCTETS) as publisher:
            publisher.listen(self._broker.topics.of(self._settings.identity_name), receipt.hear)
            self._transmit(publisher, message, sealed, timeout)
            receipt.wait(timeout)
        return Outcome(SendResult.PRINTED, sealed, self._own_record.tell())

    def close(self) -> None:
        """Close the connection; a message that another thread is sending may or may not be delivered."""
        with self._lock:
            self._is_closed = True
            publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.__exit__()

    @property
    def _sealer(self) -> Sealer:
        """The sealer of this thread."""
        sealer = getattr(self._of_thread, "sealer", None)
        if sealer is None:
            sealer = self._of_thread.sealer = Sealer(self._settings, self._key, self._discovery, self._memory)
        return sealer

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("the sender is closed")

    def _connected(self) -> Publisher:
        with self._lock:
            self._check_open()
            if self._publisher is not None and self._publisher.has_ended:
                # Its thread has ended, too, so this does not wait.
                self._publisher.__exit__()
                self._publisher = None
            if self._publisher is None:
                self._publisher = Publisher(self._broker, self._timeout).__enter__()
            return self._publisher

    def _seal(self, message: NewOutgoingMessage, *, ask_for_receipt: bool = False) -> Sealed:
        try:
            sealed = self._sealer.seal(message, ask_for_receipt=ask_for_receipt)
        except NoRecordError as error:
            raise explain_absence(error, IdentityName(message.recipient), self._discovery) from error
        self._key_log.tell(message.recipient, sealed)
        return sealed

    def _transmit(self, publisher: Publisher, message: NewOutgoingMessage, sealed: Sealed, timeout: float) -> None:
        topic = self._broker.topics.of(message.recipient)
        publication = publisher.publish(topic, sealed.payload, sealed.expiry_seconds)
        try:
            publisher.wait(publication, timeout)
        except NoSubscriberError as error:
            raise dropped(error) from error
        except BaseException:
            # Otherwise the messages of a long outage would pile up in memory, and all be sent when it ends.
            publisher.withdraw(publication)
            raise
