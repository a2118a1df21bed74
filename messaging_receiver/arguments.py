"""The command line of the receiver; apart from it, so that it can be read without the receiver's imports."""

import argparse
import math
import shlex
from pathlib import Path
from typing import Final

from idlib.errors import MalformedNameError
from idlib.names import NamePatterns
from idlib.program.command_line import parser

DEFAULT_EXEC_SECONDS: Final = 60.0
# About ten years: more seconds than a timer can wait for would be an internal error.
MAX_SECONDS: Final = 315_360_000.0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Receive messages for IDENTITY_NAME and print each authenticated one as a line on stdout."
        " Settings come from environment variables.",
        "IDENTITY_NAME=alice._device.example.com {program}",
    )
    line.usage = "%(prog)s [options]"
    line.add_argument("-C", dest="count", metavar="COUNT", type=_count, help="end after COUNT messages")
    line.add_argument("-W", dest="seconds", metavar="SECONDS", type=_seconds, help="end after SECONDS")
    line.add_argument(
        "--from",
        dest="senders",
        metavar="NAME",
        action="append",
        type=_pattern,
        help="deliver messages from NAME, store others; repeatable",
    )
    line.add_argument(
        "--exec",
        dest="command",
        metavar="COMMAND",
        type=_command,
        help="run COMMAND for each message, which is on its stdin",
    )
    line.add_argument(
        "--exec-timeout",
        dest="exec_seconds",
        metavar="SECS",
        type=_seconds,
        help="kill COMMAND after SECS seconds (default: 60)",
    )
    line.add_argument(
        "--confirm",
        action="store_true",
        help="print JSON; stdin must confirm each object's number",
    )
    line.add_argument(
        "--save-dir", metavar="DIR", type=Path, help="save content that has a content type as a file in DIR"
    )
    line.add_argument(
        "--health",
        action="store_true",
        help="print the health of the running receiver; exit with 0 if it is healthy, else 1",
    )
    line.add_argument(
        "--trust-clock",
        action="store_true",
        help="make the running receiver trust the clock, even if it has shown a later time before",
    )
    return line


def read_arguments() -> argparse.Namespace:
    """Return the arguments of the command line; end with status 64 if they are wrong."""
    line = command_line()
    arguments = line.parse_args()
    if arguments.command and arguments.confirm:
        line.error("--exec cannot be used with --confirm")
    if arguments.exec_seconds is not None and not arguments.command:
        line.error("--exec-timeout cannot be used without --exec")
    arguments.exec_seconds = arguments.exec_seconds or DEFAULT_EXEC_SECONDS
    return arguments


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 999999999")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    # Not a number is not in the range either.
    if not 0 < seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {MAX_SECONDS:.0f}")
    return seconds


def _pattern(text: str) -> str:
    try:
        return NamePatterns((text,)).texts[0]
    except MalformedNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _command(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a command: {error}".replace("No closing", "no closing")
        ) from error
    if not words or not words[0]:
        raise argparse.ArgumentTypeError("the command is empty")
    if "\0" in text:
        raise argparse.ArgumentTypeError("the command has a null character")
    return words
