"""Signs a message, encrypts it to its recipient's certificate from DNS, and publishes it."""

import argparse
import contextlib
import gc
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from idlib.errors import ExitStatus, MalformedMediaTypeError, MalformedNameError, MessageError, quoted
from idlib.names import IdentityName
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.program.imports import leave_out_dns_resolver
from idlib.settings import SENDER_READS, Settings, load
from idlib.system.interruption import raise_when_terminated


def main() -> int:
    """Send the message or messages of the command line; return the exit status."""
    arguments = _read_arguments()
    settings = get_config()
    # One message leaves no garbage that is worth a search, and searching takes a tenth of the time of the imports.
    gc.disable()
    leave_out_dns_resolver()
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
            # Imported late, here and below, so that --help and a wrong command line are answered at once.
            from messaging_sender.lines import LineSender

            gc.enable()
            return LineSender(settings, arguments).send(source)
        from messaging_sender.sending import Sending, read_content

        content = read_content(source, settings.max_message_size, arguments.content_type)
    if arguments.recipient is None:
        return _send_to_several(settings, arguments, content)
    Sending(settings, arguments, content).send()
    return ExitStatus.OK


def _send_to_several(settings: Settings, arguments: argparse.Namespace, content: str | bytes) -> int:
    from messaging_sender.recipients import several
    from messaging_sender.several_recipients import SenderToSeveral

    gc.enable()
    return SenderToSeveral(settings, arguments, several(arguments.to, arguments.to_file), content).send()


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
        DiscoveryError: The recipient has no certificate that can be used, or no epoch key although it is marked.
        NotForwardSecretError: The recipient is not marked, and REQUIRE_FORWARD_SECRECY names it.
        MessageError: The message is empty or too large, or is not valid Unicode.
    """
    from idlib.envelope import new_identifier
    from idlib.storage.outgoing import NewOutgoingMessage
    from messaging_sender.sealing import Sealer

    given = {"IDENTITY_NAME": source_name, "CRYPTO_PATH": crypto_path, "APP_UID": str(app_uid)}
    settings = load({**os.environ, **given}, SENDER_READS)
    outgoing = NewOutgoingMessage(str(IdentityName(recipient)), new_identifier(), message, int(time.time()), None)
    return Sealer.from_settings(settings).seal(outgoing).payload.decode()


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Sign a message, encrypt it and publish it. Settings are environment variables.",
        "{program} bob._device.example.com 'Good morning'",
    )
    line.usage = "%(prog)s [options] RECIPIENT [MESSAGE]"
    line.add_argument("recipient", metavar="RECIPIENT", nargs="?", help="the recipient's DNS name")
    # Its help would not fit on one screen.
    line.add_argument("message", metavar="MESSAGE", nargs="?", help=argparse.SUPPRESS)
    line.add_argument("--to", metavar="NAME", type=_recipient, action="append", help="a recipient; give it repeatedly")
    line.add_argument("--to-file", metavar="FILE", type=Path, help="a file of recipients, one on each line")
    line.add_argument("--file", metavar="PATH", type=Path, help="read MESSAGE from a file; - reads it from stdin")
    line.add_argument("--content-type", metavar="TYPE", type=_content_type, help="its media type, as in image/png")
    line.add_argument("--lines", action="store_true", help="send each line of the file or stdin")
    line.add_argument("--queue", action="store_true", help="queue the message if it cannot be sent now")
    line.add_argument("--receipt", action="store_true", help="wait until RECIPIENT has printed it")
    line.add_argument("--json", action="store_true", help="report each message as JSON on stdout")
    line.add_argument("--verbose", action="store_true", help="log the records found in DNS")
    line.add_argument(
        "--expires",
        metavar="SECONDS",
        type=_lifetime,
        help="expire it after SECONDS (default: never)",
    )
    line.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long to wait for the broker (default: 30)",
    )
    return line


def _read_arguments() -> argparse.Namespace:
    line = command_line()
    # MESSAGE may follow options.
    arguments, rest = line.parse_known_intermixed_args()
    if rest:
        line.error(_complaint(arguments, rest))
    if arguments.to is None and arguments.to_file is None:
        _read_recipient(line, arguments)
    else:
        _move_message(line, arguments)
    if arguments.message is not None and arguments.file is not None:
        line.error("give either MESSAGE or --file, not both")
    if arguments.message is None and arguments.file is None and not arguments.lines:
        line.error("give a MESSAGE, - to read it from stdin, or --file PATH")
    if arguments.receipt and (arguments.queue or arguments.lines):
        line.error("--receipt cannot be used with --queue or --lines")
    return arguments


def _read_recipient(line: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.recipient is None:
        line.error("the following arguments are required: RECIPIENT")
    try:
        arguments.recipient = _recipient(arguments.recipient)
    except argparse.ArgumentTypeError as error:
        line.error(f"argument RECIPIENT: {error}")


def _move_message(line: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Read the only word as MESSAGE, because options name the recipients."""
    if arguments.message is not None:
        line.error("give either RECIPIENT or --to and --to-file; put the message into quotes")
    if arguments.receipt or arguments.lines:
        line.error("--receipt and --lines cannot be used with --to or --to-file")
    arguments.recipient, arguments.message = None, arguments.recipient
    if str(arguments.to_file) == arguments.message == "-":
        line.error("stdin can be MESSAGE or --to-file, not both")
    arguments.to = arguments.to or []


def _complaint(arguments: argparse.Namespace, rest: list[str]) -> str:
    if arguments.message is None or any(word.startswith("-") for word in rest):
        return f"unrecognized arguments: {' '.join(rest)}"
    return f"put the message into quotes: {shlex.quote(' '.join([arguments.message, *rest]))}"


def _recipient(text: str) -> IdentityName:
    from messaging_sender.recipients import read_name

    try:
        return read_name(text)
    except MalformedNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _content_type(text: str) -> str:
    from idlib.media_types import media_type

    try:
        return media_type(text)
    except MalformedMediaTypeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
