"""The command line of the receiver; apart from it, so that it can be read without the receiver's imports."""

import argparse

from idlib.program.command_line import parser


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Receive messages for IDENTITY_NAME and print each authenticated one as a line on stdout."
        " Settings come from environment variables.",
        "IDENTITY_NAME=alice._device.example.com {program}",
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
