"""Create the device's identity: a private key and a self-signed certificate."""

import argparse
import sys

from idlib.commands import command
from idlib.program.command_line import parser
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Create a private key and a self-signed certificate for IDENTITY_NAME in CRYPTO_PATH.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program}",
    )
    line.add_argument(
        "--force", action="store_true", help="replace an existing key (the old key is kept as NAME.key.previous.pem)"
    )
    return line


def main() -> None:
    """Create the private key and the certificate."""
    force = command_line().parse_args().force
    # Imported late, because --help needs none of it.
    from idlib.bootstrap import Bootstrap

    identity = Bootstrap.from_settings(read_environment(MAINTENANCE_READS))
    if force:
        identity.replace_selfsigned_identity()
    else:
        identity.create_selfsigned_identity()
    print(f"{identity.identity_name} has a new key and certificate.", file=sys.stderr)
    print(
        f"Next: run {command('identity publish')} to put its record into DNS, or to print it.",
        file=sys.stderr,
    )
