"""Create a certificate signing request for the device's key, and the key if there is none yet."""

import argparse
import sys

from idlib.commands import command
from idlib.errors import quoted
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Print a certificate signing request for IDENTITY_NAME's private key in CRYPTO_PATH.\n"
        "An existing key is used; otherwise a new one is created.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program} > request.pem",
    )
    line.add_argument(
        "--force", action="store_true", help="create a new key (the old key is kept as NAME.key.previous.pem)"
    )
    return line


def main() -> None:
    """Create the request, and print what to do with it."""
    force = command_line().parse_args().force
    require_stdout()
    # Imported late, because --help needs none of it.
    from idlib.bootstrap import Bootstrap

    identity = Bootstrap.from_settings(read_environment(MAINTENANCE_READS))
    key_path = identity.get_path_for_pki_asset("key")
    if force:
        identity.replace_private_key()
        print("The device has no certificate for its new key until you install one.", file=sys.stderr)
    elif identity.has_private_key():
        print(f"The existing key {quoted(key_path)} is kept and used.", file=sys.stderr)
    else:
        identity.generate_private_key()
    identity.generate_csr()
    print(identity.get_pki_asset("csr").decode(), end="")
    print(
        f"Send this request to your CA; it is also in {quoted(identity.get_path_for_pki_asset('csr'))}.\n"
        f"To install the certificate as {quoted(identity.get_path_for_pki_asset('cert'))}, run\n"
        f"  {command('identity install')} < certificate.pem\n"
        f"Then run {command('identity tlsa')} to print the record to publish in DNS.",
        file=sys.stderr,
    )
