#!/usr/bin/env -S sh -c 'p=${0%/*}/../../../.venv/bin/python; [ -x "$p" ] || p=python3; exec "$p" "$0" "$@"'
"""Signs a message, encrypts it by its recipient's certificate from DNS, and publishes it."""

import argparse
import contextlib
import io
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.envelope import Binding, seal
from idlib.errors import ExitStatus, MalformedNameError, MessageError
from idlib.keys import key_path, read_private_key
from idlib.names import IdentityName
from idlib.program import parser, read_settings, run
from idlib.settings import Settings
from idlib.transport import Broker, Publication, Publisher

_LOG = logging.getLogger("send_message")

# The broker may drop what was not fetched by then.
MESSAGE_EXPIRY_SECONDS: Final = 7 * 24 * 3600
_MAX_UNACKNOWLEDGED: Final = 64


def main() -> int:
    """Send what the command line says; return the exit status."""
    arguments = _read_arguments()
    settings = get_config()
    with _opened(arguments) as source:
        if arguments.lines:
            return _send_lines(settings, arguments, source)
        text = _decode(_read_at_most(source, settings.max_message_size), "the message")
    sealer = _Sealer(settings, arguments.recipient, arguments.expires)
    if arguments.verbose:
        sealer.describe_recipient()
    payload = sealer.seal(text)
    with Publisher(Broker.from_settings(settings), arguments.timeout) as publisher:
        publisher.wait(publisher.publish(str(arguments.recipient), payload, _at_the_broker(arguments.expires)))
    _LOG.info("The broker has acknowledged the message to %s.", arguments.recipient)
    return ExitStatus.OK


def get_config() -> Settings:
    """Return the settings of the environment, and log to stderr from now on.

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    return read_settings()


class _Sealer:
    """Signs by our own key and encrypts to one recipient.

    Args:
        settings: What the environment says.
        recipient: Whose certificate is found in DNS, anew whenever its time to live is over.
        lifetime: After how many seconds a message expires; None for never.

    Raises:
        KeyFileError: Our own key is missing or unusable.
    """

    def __init__(self, settings: Settings, recipient: IdentityName, lifetime: int | None) -> None:
        self._settings = settings
        self._recipient = recipient
        self._lifetime = lifetime
        self._key: PrivateKey = read_private_key(key_path(settings.crypto_path, settings.identity_name))
        self._discovery = Discovery.from_settings(settings)

    def find_recipient(self) -> None:
        """Look the recipient up, so that trouble with its certificate shows before anything else is begun.

        Raises:
            DiscoveryError: It has no certificate that can be used.
        """
        self._discovery.find(self._recipient)

    def describe_recipient(self) -> None:
        """Log what was found of the recipient in DNS, and how it was authenticated.

        Raises:
            DiscoveryError: It has no certificate that can be used.
        """
        found = self._discovery.find(self._recipient)
        _LOG.info("%s is authenticated: %s.", found.name, found.authentication)
        for number, usable in enumerate(found.records):
            use = "the message is encrypted to it" if number == 0 else "its signatures are accepted, too"
            kind, bits = usable.public_key.algorithms.key_kind, usable.public_key.native.key_size
            _LOG.info("Record %s, %s of %d bits: %s.", usable.record.parameters, kind, bits, use)
        for reason in found.skipped:
            _LOG.info("Not usable: %s.", reason)

    def seal(self, text: str) -> bytes:
        """Return the payload to publish.

        Args:
            text: The message.

        Raises:
            DiscoveryError: The recipient has no certificate that can be used.
            MessageError: The message is empty, or too large once it is signed and encrypted.
        """
        payload = seal(
            text,
            sender=self._settings.identity_name,
            signing_key=self._key,
            recipient=self._recipient,
            encryption_key=self._discovery.find(self._recipient).records[0].public_key,
            binding=Binding.new(self._recipient, int(time.time()), self._lifetime),
        )
        if len(payload) > self._settings.max_message_size:
            raise _too_large(f"{len(payload)} octets when signed and encrypted", self._settings.max_message_size)
        return payload


def _at_the_broker(lifetime: int | None) -> int:
    """Return after how many seconds the broker may drop a message."""
    return MESSAGE_EXPIRY_SECONDS if lifetime is None else min(lifetime, MESSAGE_EXPIRY_SECONDS)


def _send_lines(settings: Settings, arguments: argparse.Namespace, source: BinaryIO) -> int:
    """Send each line as a message; go on after a line that cannot be sent, and return the first such line's status."""
    recipient, kept_for = arguments.recipient, _at_the_broker(arguments.expires)
    status = ExitStatus.OK
    acknowledged = 0
    unacknowledged: deque[Publication] = deque()
    sealer = _Sealer(settings, recipient, arguments.expires)
    sealer.find_recipient()
    if arguments.verbose:
        sealer.describe_recipient()
    with Publisher(Broker.from_settings(settings), arguments.timeout) as publisher:
        for number, line in enumerate(_lines(source, settings.max_message_size), 1):
            try:
                payload = sealer.seal(_decode(line, f"line {number}"))
            except MessageError as error:
                _LOG.error("Line %d was not sent: %s", number, error)
                status = status or error.exit_status
                continue
            unacknowledged.append(publisher.publish(str(recipient), payload, kept_for))
            if len(unacknowledged) == _MAX_UNACKNOWLEDGED:
                publisher.wait(unacknowledged.popleft())
                acknowledged += 1
        while unacknowledged:
            publisher.wait(unacknowledged.popleft())
            acknowledged += 1
    _LOG.info("The broker has acknowledged %d messages to %s.", acknowledged, recipient)
    return status


def _read_arguments() -> argparse.Namespace:
    command_line = parser(
        "Sign a message, encrypt it by RECIPIENT's certificate from DNS, and publish it. Settings come from environment"
        " variables. Ends with 0 once the broker has acknowledged it.",
        "send_message.py bob._device.example.com 'Good morning'",
    )
    command_line.add_argument("recipient", metavar="RECIPIENT", type=_recipient, help="the recipient's DNS name")
    command_line.add_argument("message", metavar="MESSAGE", nargs="?", help="the text, or - to read it from stdin")
    command_line.add_argument("--file", metavar="PATH", type=Path, help="read the text from a file")
    command_line.add_argument("--lines", action="store_true", help="send each line as a message, from stdin or a file")
    command_line.add_argument("--verbose", action="store_true", help="tell what DNS says of the recipient")
    command_line.add_argument(
        "--expires",
        metavar="SECONDS",
        type=_lifetime,
        help="after how long nobody is to read the message any more (default: never)",
    )
    command_line.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long the broker may take to answer (default: 30)",
    )
    arguments = command_line.parse_args()
    if arguments.message is not None and arguments.file is not None:
        command_line.error("give either MESSAGE or --file, not both")
    if arguments.message is None and arguments.file is None and not arguments.lines:
        command_line.error("give a MESSAGE, - to read it from stdin, or --file PATH")
    return arguments


def _recipient(text: str) -> IdentityName:
    try:
        return IdentityName(text)
    except MalformedNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _lifetime(text: str) -> int:
    if not re.fullmatch("[0-9]{1,8}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError("give a whole number of seconds from 1 to 99999999")
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError("give more than 0 and at most 86400 seconds")
    return seconds


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[BinaryIO]:
    """Yield where the message or the messages are read from."""
    if arguments.file is not None:
        try:
            file = arguments.file.open("rb")
        except OSError as error:
            raise MessageError(f"{arguments.file} cannot be read: {error.strerror}") from error
        with file:
            yield file
    elif arguments.message in {None, "-"}:
        yield sys.stdin.buffer
    else:
        yield io.BytesIO(arguments.message.encode("utf-8", "surrogateescape"))


def _read_at_most(source: BinaryIO, limit: int) -> bytes:
    octets = source.read(limit + 1)
    if len(octets) > limit:
        raise _too_large(f"more than {limit} octets", limit)
    return octets


def _lines(source: BinaryIO, limit: int) -> Iterator[bytes]:
    """Yield each line without its end; of a line that is too long only as much as shows that it is."""
    while line := source.readline(limit + 2):
        rest = line
        while not rest.endswith(b"\n") and (rest := source.readline(limit)):
            pass
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _decode(octets: bytes, what: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise MessageError(f"{what} is not UTF-8: octet {error.start + 1} is wrong", "convert it to UTF-8") from error


def _too_large(what: str, limit: int) -> MessageError:
    return MessageError(
        f"the message is too large: {what}, and the limit is {limit}",
        "shorten it, or raise MAX_MESSAGE_SIZE on both sides",
    )


if __name__ == "__main__":
    run(main)
