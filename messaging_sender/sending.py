"""Sends or queues one message, and reports the result."""

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from idlib.envelope.identifier import new_identifier
from idlib.errors import IdlibError, MessageError
from idlib.keys import key_path, read_file
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage
from messaging_sender.bounds import too_large
from messaging_sender.reporting import Outcome, SendResult, report

if TYPE_CHECKING:
    from messaging_sender.sealing import Sealer


class Sending:
    """One message being sent, and its result so far.

    Args:
        settings: From the environment.
        arguments: From the command line.
        content: The text of the message, or the bytes of content that has a type.

    Raises:
        KeyFileError: Our own key is missing or unusable.
        ConfigurationError: A file that the settings name cannot be used.
    """

    def __init__(self, settings: Settings, arguments: argparse.Namespace, content: str | bytes) -> None:
        self._settings = settings
        self._arguments = arguments
        self._message = NewOutgoingMessage(
            str(arguments.recipient),
            new_identifier(),
            content,
            int(time.time()),
            arguments.expires,
            content_type=arguments.content_type,
        )
        self._outcome = Outcome()
        self._sealer: Sealer | None = None
        if arguments.queue and settings.dnssec_trust_anchors is None and settings.pkix_ca_file is None:
            # The message may only be queued, without the key; a key that is missing shows all the same.
            read_file(key_path(settings.crypto_path, settings.identity_name))
        else:
            self._sealer = self._new_sealer()

    def send(self) -> None:
        """Send or queue the message, and report the result.

        Raises:
            IdlibError: It was not sent, or not acknowledged, or not confirmed.
        """
        error: BaseException | None = None
        try:
            if self._arguments.queue:
                self._send_or_queue()
            else:
                self._send()
        except (IdlibError, KeyboardInterrupt) as raised:
            error = raised
            raise
        finally:
            if self._arguments.json:
                outcome = self._outcome
                sealed, warning = outcome.sealed, outcome.warning
                print(report(self._message, outcome.result, sealed=sealed, error=error, warning=warning))

    def _send_or_queue(self) -> None:
        # Imported late, because only --queue needs the outbox.
        from messaging_sender.queuing import has_waiting, is_temporary, queue_and_tell

        why = "earlier messages to it are still queued"
        if not has_waiting(self._settings, self._arguments.recipient):
            try:
                self._send()
            except IdlibError as error:
                if not is_temporary(error):
                    raise
                why = str(error)
            else:
                return
        sealed = self._outcome.sealed
        was_sealed_to_epoch = sealed is not None and sealed.epoch is not None
        queue_and_tell(self._settings, replace(self._message, was_sealed_to_epoch=was_sealed_to_epoch), why)
        self._outcome.result = SendResult.QUEUED

    def _send(self) -> None:
        # Imported late, because a message is queued behind others without DNS and MQTT.
        from messaging_sender.transmission import Transmission

        sealer = self._sealer or self._new_sealer()
        Transmission(self._settings, self._arguments, sealer, self._outcome).run(self._message)

    def _new_sealer(self) -> "Sealer":
        # Imported late, because a message is queued without cryptography.
        from messaging_sender.sealing import Sealer

        if not self._arguments.queue:
            # It would need the outbox.
            return Sealer.from_settings(self._settings)
        from messaging_sender.mark_memory import MarkMemory

        return Sealer.from_settings(self._settings, MarkMemory.from_settings(self._settings))


def read_content(source: BinaryIO, limit: int, content_type: str | None) -> str | bytes:
    """Return the content of a message.

    Args:
        source: Any bytes with a content type, UTF-8 without one.
        limit: Its largest size in bytes.
        content_type: Its media type; None for a text.

    Raises:
        MessageError: It is larger, or it has no type and is not UTF-8.
    """
    octets = source.read(limit + 1)
    if len(octets) > limit:
        raise too_large(f"more than {limit} bytes", limit)
    return decode(octets, "the message") if content_type is None else octets


def decode(octets: bytes, what: str) -> str:
    """Decode UTF-8.

    Args:
        octets: The bytes.
        what: Their name in an error.

    Raises:
        MessageError: They are not UTF-8.
    """
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise MessageError(
            f"{what} is not UTF-8: byte {error.start + 1} is invalid", "convert it to UTF-8, or give its --content-type"
        ) from error
