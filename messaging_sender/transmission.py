"""Seals one message, publishes it, and waits for the broker and, if asked to, for the recipient."""

import argparse
import logging

from idlib.discovery.misplacement import explain_absence
from idlib.errors import NoRecordError, NoSubscriberError, RefusedMessageError
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system.failure_log import FailureLog
from idlib.transport import Broker, Publication, Publisher
from messaging_sender.bounds import MAX_RECEIPT_OCTETS
from messaging_sender.reporting import Outcome, SendResult
from messaging_sender.sealed import KeyLog, Sealed
from messaging_sender.sealing import Sealer
from messaging_sender.sender_record import OwnRecord

_LOG = logging.getLogger(__name__)


class Transmission:
    """One message on its way to the broker.

    Args:
        settings: From the environment.
        arguments: From the command line.
        sealer: Seals the message.
        outcome: Updated with each step.

    Raises:
        ConfigurationError: The settings for DNS exclude each other, or a file that they name cannot be used.
    """

    def __init__(self, settings: Settings, arguments: argparse.Namespace, sealer: Sealer, outcome: Outcome) -> None:
        self._settings = settings
        self._arguments = arguments
        self._sealer = sealer
        self._outcome = outcome
        self._own_record = OwnRecord(settings, sealer.discovery, FailureLog(_LOG))

    def run(self, message: NewOutgoingMessage) -> None:
        """Send the message.

        Args:
            message: The message.

        Raises:
            IdlibError: It was not sent, or not acknowledged, or not confirmed.
        """
        arguments, outcome = self._arguments, self._outcome
        self._own_record.look(self._sealer.key)
        if arguments.receipt:
            # Imported late, here and below, because few messages need it.
            from messaging_sender.own_halves import check_own_halves

            check_own_halves(self._settings, self._sealer.discovery)
        sealed = outcome.sealed = self._seal(message)
        KeyLog().tell(message.recipient, sealed)
        receipt = None
        broker = Broker.from_settings(self._settings)
        with Publisher(broker, arguments.timeout, MAX_RECEIPT_OCTETS) as publisher:
            if arguments.receipt:
                from messaging_sender.receipt_listener import ReceiptListener

                receipt = ReceiptListener(self._settings, self._sealer, arguments.recipient, message.identifier)
                publisher.listen(broker.topics.of(self._settings.identity_name), receipt.hear)
            topic = broker.topics.of(message.recipient)
            publication = publisher.publish(topic, sealed.payload, sealed.expiry_seconds)
            outcome.result = SendResult.UNACKNOWLEDGED
            self._wait(publisher, publication)
            outcome.result = SendResult.ACKNOWLEDGED
            _LOG.info("The broker %s has acknowledged the message to %s.", broker, message.recipient)
            outcome.warning = self._own_record.tell()
            if receipt is not None:
                receipt.wait(arguments.timeout)
                outcome.result = SendResult.PRINTED
                _LOG.info("%s has printed the message.", message.recipient)

    def _seal(self, message: NewOutgoingMessage) -> Sealed:
        arguments = self._arguments
        try:
            if arguments.verbose:
                self._sealer.describe(arguments.recipient)
            return self._sealer.seal(message, ask_for_receipt=arguments.receipt)
        except NoRecordError as error:
            raise explain_absence(error, arguments.recipient, self._sealer.discovery) from error

    def _wait(self, publisher: Publisher, publication: Publication) -> None:
        try:
            publisher.wait(publication)
        except RefusedMessageError:
            # The broker has answered, so the result is known.
            self._outcome.result = SendResult.FAILED
            raise
        except NoSubscriberError as error:
            self._outcome.result = SendResult.NO_SUBSCRIBER
            if self._arguments.queue:
                raise
            raise dropped(error) from error


def dropped(error: NoSubscriberError) -> NoSubscriberError:
    """Return the error for a message that is not queued, so that the broker has dropped it.

    Args:
        error: From the publisher.
    """
    return NoSubscriberError(f"{error.fact}; the message was dropped", error.hint)
