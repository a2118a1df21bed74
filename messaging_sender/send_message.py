"""Signs a message, encrypts it to its recipient's certificate from DNS, and publishes it."""

import argparse
import contextlib
import io
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from idlib.discovery.misplacement import explain_absence
from idlib.envelope import new_identifier
from idlib.errors import (
    ExitStatus,
    IdlibError,
    MalformedNameError,
    MessageError,
    NoRecordError,
    NoSubscriberError,
    RefusedMessageError,
    quoted,
)
from idlib.names import IdentityName
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import SENDER_READS, Settings, load
from idlib.storage.outbox import NewOutgoingMessage
from idlib.system.failure_log import FailureLog
from idlib.system.interruption import raise_when_terminated
from idlib.transport import Broker, Publication, Publisher
from messaging_sender.lines import LineSender, decode, dropped
from messaging_sender.queuing import has_waiting, is_temporary, queue_message, resident_sender, warn_if_nobody_sends
from messaging_sender.receipt_listener import MAX_RECEIPT_OCTETS, ReceiptListener
from messaging_sender.reporting import SendResult, report
from messaging_sender.sealing import Sealer, seconds_at_the_broker, too_large
from messaging_sender.sender_record import OwnRecord

_LOG = logging.getLogger("send_message")


def main() -> int:
    """Send the message or messages of the command line; return the exit status."""
    arguments = _read_arguments()
    settings = get_config()
    # From here on, the result has to be reported even after SIGTERM.
    raise_when_terminated()
    status = _send(settings, arguments)
    if arguments.json and not status:
        # Same status as when stdout cannot be written: the message was sent, but not its report.
        require_stdout()
    return status


def _send(settings: Settings, arguments: argparse.Namespace) -> int:
    with _opened(arguments) as source:
        if arguments.lines:
            return LineSender(settings, arguments).send(source)
        text = decode(_read_at_most(source, settings.max_message_size), "the message")
    message = NewOutgoingMessage(str(arguments.recipient), new_identifier(), text, int(time.time()), arguments.expires)
    _Sending(settings, arguments, message).send()
    return ExitStatus.OK


def get_config() -> Settings:
    """Return the settings of the environment, and log to stderr from now on.

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    return read_environment(SENDER_READS)


def sign_and_encrypt(source_name: str, crypto_path: str, app_uid: int, message: str, recipient: str) -> str:
    """Return what Listing 1 of the published article publishes: the message, signed and then encrypted.

    Unlike the listing's, the message is bound to its recipient and its time, and refused if no receiver would accept
    it. DNS is asked as set in the environment (DNS_RESOLVER, DNSSEC, DNSSEC_TRUST_ANCHORS).

    Args:
        source_name: The sender's name.
        crypto_path: The directory of its private key.
        app_uid: The number of the user that owns the key.
        message: The text.
        recipient: The recipient's name.

    Raises:
        ConfigurationError: A path or our own name is malformed, or an environment variable has a bad value.
        MalformedNameError: The recipient's name is malformed.
        KeyFileError: The private key is missing or unusable.
        DiscoveryError: The recipient has no certificate that can be used.
        MessageError: The message is empty or too large, or is not valid Unicode.
    """
    given = {"IDENTITY_NAME": source_name, "CRYPTO_PATH": crypto_path, "APP_UID": str(app_uid)}
    settings = load({**os.environ, **given}, SENDER_READS)
    outgoing = NewOutgoingMessage(str(IdentityName(recipient)), new_identifier(), message, int(time.time()), None)
    return Sealer.from_settings(settings).seal(outgoing).decode()


class _Sending:
    """One message being sent, and its result so far.

    Args:
        settings: From the environment.
        arguments: From the command line.
        message: The message.

    Raises:
        KeyFileError: Our own key is missing or unusable.
    """

    def __init__(self, settings: Settings, arguments: argparse.Namespace, message: NewOutgoingMessage) -> None:
        self._settings = settings
        self._arguments = arguments
        self._message = message
        self._sealer = Sealer.from_settings(settings)
        self._result = SendResult.FAILED
        self._size: int | None = None
        self._own_record = OwnRecord(settings, self._sealer.discovery, FailureLog(_LOG))
        self._warning: str | None = None

    def send(self) -> None:
        """Send or queue the message, and report the result.

        Raises:
            IdlibError: It was not sent, or not acknowledged, or not confirmed.
        """
        error: BaseException | None = None
        try:
            self._send_or_queue()
        except (IdlibError, KeyboardInterrupt) as raised:
            error = raised
            raise
        finally:
            if self._arguments.json:
                print(report(self._message, self._result, size=self._size, error=error, warning=self._warning))

    def _send_or_queue(self) -> None:
        arguments = self._arguments
        if arguments.queue and has_waiting(self._settings, arguments.recipient):
            self._queue("earlier messages to it are still queued")
            return
        try:
            self._send()
        except IdlibError as error:
            if not arguments.queue or not is_temporary(error):
                raise
            self._queue(str(error))

    def _queue(self, why: str) -> None:
        queue_message(self._settings, self._sealer, self._message)
        self._result = SendResult.QUEUED
        _LOG.warning(
            "The message to %s is queued; %s will send it: %s", self._message.recipient, resident_sender(), why
        )
        warn_if_nobody_sends(self._settings)

    def _send(self) -> None:
        arguments, message = self._arguments, self._message
        self._own_record.look(self._sealer.key)
        payload = self._seal()
        self._size = len(payload)
        receipt = None
        broker = Broker.from_settings(self._settings)
        with Publisher(broker, arguments.timeout, MAX_RECEIPT_OCTETS) as publisher:
            if arguments.receipt:
                receipt = ReceiptListener(self._settings, self._sealer, arguments.recipient, message.identifier)
                publisher.listen(str(self._settings.identity_name), receipt.hear)
            publication = publisher.publish(message.recipient, payload, seconds_at_the_broker(message))
            self._result = SendResult.UNACKNOWLEDGED
            self._wait(publisher, publication)
            self._result = SendResult.ACKNOWLEDGED
            _LOG.info("The broker %s has acknowledged the message to %s.", broker, message.recipient)
            self._warning = self._own_record.tell()
            if receipt is not None:
                receipt.wait(arguments.timeout)
                self._result = SendResult.PRINTED
                _LOG.info("%s has printed the message.", message.recipient)

    def _seal(self) -> bytes:
        arguments = self._arguments
        try:
            if arguments.verbose:
                self._sealer.describe(arguments.recipient)
            return self._sealer.seal(self._message, ask_for_receipt=arguments.receipt)
        except NoRecordError as error:
            raise explain_absence(error, arguments.recipient, self._sealer.discovery) from error

    def _wait(self, publisher: Publisher, publication: Publication) -> None:
        try:
            publisher.wait(publication)
        except RefusedMessageError:
            # The broker has answered, so the result is known.
            self._result = SendResult.FAILED
            raise
        except NoSubscriberError as error:
            self._result = SendResult.NO_SUBSCRIBER
            if self._arguments.queue:
                raise
            raise dropped(error) from error


def _read_arguments() -> argparse.Namespace:
    command_line = parser(
        "Sign a message, encrypt it to RECIPIENT and publish it. The exit status is 0 once the broker has acknowledged"
        " it. Settings are environment variables.",
        "{program} bob._device.example.com 'Good morning'",
    )
    command_line.usage = "%(prog)s [options] RECIPIENT [MESSAGE]"
    command_line.add_argument("recipient", metavar="RECIPIENT", type=_recipient, help="the recipient's DNS name")
    command_line.add_argument("message", metavar="MESSAGE", nargs="?", help="the text, or - to read it from stdin")
    command_line.add_argument("--file", metavar="PATH", type=Path, help="read the text from a file")
    command_line.add_argument("--lines", action="store_true", help="send each line as a message, from stdin or a file")
    command_line.add_argument(
        "--queue", action="store_true", help="queue the message if the broker, DNS or a subscriber is unavailable"
    )
    command_line.add_argument(
        "--receipt", action="store_true", help="wait until RECIPIENT confirms that it has printed it"
    )
    command_line.add_argument("--json", action="store_true", help="report each message as a JSON object on stdout")
    command_line.add_argument("--verbose", action="store_true", help="log the records found in DNS for RECIPIENT")
    command_line.add_argument(
        "--expires",
        metavar="SECONDS",
        type=_lifetime,
        help="expire the message after SECONDS (default: never)",
    )
    command_line.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long to wait for the broker to answer (default: 30)",
    )
    # MESSAGE may follow options.
    arguments, rest = command_line.parse_known_intermixed_args()
    if rest:
        command_line.error(_complaint(arguments, rest))
    if arguments.message is not None and arguments.file is not None:
        command_line.error("give either MESSAGE or --file, not both")
    if arguments.message is None and arguments.file is None and not arguments.lines:
        command_line.error("give a MESSAGE, - to read it from stdin, or --file PATH")
    if arguments.receipt and (arguments.queue or arguments.lines):
        command_line.error("--receipt cannot be used with --queue or --lines")
    return arguments


def _complaint(arguments: argparse.Namespace, rest: list[str]) -> str:
    if arguments.message is None or any(word.startswith("-") for word in rest):
        return f"unrecognized arguments: {' '.join(rest)}"
    return f"put the message into quotes: {shlex.quote(' '.join([arguments.message, *rest]))}"


def _recipient(text: str) -> IdentityName:
    if re.fullmatch(r"[0-9.]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is an IP address; give the device's DNS name")
    try:
        return IdentityName(text)
    except MalformedNameError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a device name; {error.hint}") from error


def _lifetime(text: str) -> int:
    if not re.fullmatch("[0-9]{1,8}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("give a whole number of seconds from 1 to 99999999")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError("give more than 0 and at most 86400 seconds")
    return seconds


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[BinaryIO]:
    """Yield the file that the message or the lines are read from."""
    if arguments.file is not None:
        try:
            file = arguments.file.open("rb")
        except OSError as error:
            raise MessageError(f"{quoted(arguments.file)} cannot be read: {error.strerror}") from error
        with file:
            yield file
    elif arguments.message in {None, "-"}:
        if sys.stdin is None:
            raise MessageError("stdin is closed", "give MESSAGE or --file PATH")
        if sys.stdin.isatty():
            what = "a message on each line" if arguments.lines else "the message"
            print(f"Type {what}, then press Ctrl-D.", file=sys.stderr)
        yield sys.stdin.buffer
    else:
        yield io.BytesIO(arguments.message.encode("utf-8", "surrogateescape"))


def _read_at_most(source: BinaryIO, limit: int) -> bytes:
    octets = source.read(limit + 1)
    if len(octets) > limit:
        raise too_large(f"more than {limit} bytes", limit)
    return octets
