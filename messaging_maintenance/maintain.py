"""`dane-messenger maintain`: the maintenance service, outside of a container."""

import argparse

from idlib.commands import command
from idlib.errors import ExitStatus
from idlib.program.command_line import parser
from messaging_maintenance import application
from messaging_maintenance.health import print_health


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Look after the identity of this device until stopped: if DNS_PUBLISH or ROTATE_EVERY is set, check twice a day"
        " that the record is in DNS, change the key when that is due, and publish epoch records.",
        "IDENTITY_NAME=alice._device.example.dedyn.io DNS_PUBLISH=desec"
        " DESEC_TOKEN_FILE=~/messenger/desec.token {program}",
    )
    line.add_argument("--health", action="store_true", help="print what the last check found, and exit")
    return line


def main() -> int:
    """Run the service until it is stopped, or print its health; return the exit status."""
    if command_line().parse_args().health:
        return print_health()
    application.main(f"To create an identity, run {command('identity new')}; see --help.")
    return ExitStatus.OK
