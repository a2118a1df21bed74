"""Install the certificate that a CA has issued for the device's key."""

import argparse
import sys

from idlib.commands import command
from idlib.errors import KeyFileError, quoted
from idlib.keys import MAX_FILE_BYTES
from idlib.program.command_line import parser
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return parser(
        "Read a certificate or a certificate chain in PEM form from stdin, and install the certificate\n"
        "for IDENTITY_NAME's private key in CRYPTO_PATH.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program} < certificate.pem",
    )


def main() -> None:
    """Read the certificate from stdin, check that it matches the key, and install it."""
    command_line().parse_args()
    # Imported late, because --help needs none of it.
    from idlib.bootstrap import Bootstrap

    identity = Bootstrap.from_settings(read_environment(MAINTENANCE_READS))
    if sys.stdin is not None and sys.stdin.isatty():
        print("Paste the certificate, then press Ctrl-D.", file=sys.stderr)
    if sys.stdin is None:
        raise KeyFileError("stdin is closed", "give the certificate with < certificate.pem")
    pem = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(pem) > MAX_FILE_BYTES:
        raise KeyFileError("the input is too large for a certificate", f"give at most {MAX_FILE_BYTES} bytes")
    identity.install_certificate(pem)
    print(f"The certificate is installed as {quoted(identity.get_path_for_pki_asset('cert'))}.", file=sys.stderr)
    print(
        f"Next: run {command('identity publish')} to put its record into DNS, or to print it.",
        file=sys.stderr,
    )
