#!/usr/bin/env -S sh -c 'p=${0%/*}/../../../.venv/bin/python; [ -x "$p" ] || p=python3; exec "$p" "$0" "$@"'
"""Put the certificate that a CA has issued for the device's key into its place."""

if __name__ == "__main__":
    # Before what takes long to import.
    from idlib.interruption import end_when_interrupted

    end_when_interrupted()

import sys

from idlib.bootstrap import Bootstrap
from idlib.errors import KeyFileError
from idlib.keys import MAX_FILE_OCTETS
from idlib.program import parser, read_settings, run


def main() -> None:
    """Read the certificate from stdin, check it against the key, and write it."""
    parser(
        "Read a certificate, or a chain of them, in PEM form from stdin, and put the one that is for\n"
        "IDENTITY_NAME's private key into its place in CRYPTO_PATH.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=./identity ./install_certificate.py < certificate.pem",
    ).parse_args()
    identity = Bootstrap.from_settings(read_settings())
    if sys.stdin.isatty():
        print("Paste the certificate, then press Ctrl-D.", file=sys.stderr)
    pem = sys.stdin.buffer.read(MAX_FILE_OCTETS + 1)
    if len(pem) > MAX_FILE_OCTETS:
        raise KeyFileError("this is too large for a certificate", f"give at most {MAX_FILE_OCTETS} octets")
    identity.install_certificate(pem)
    print(f"The certificate is in place at {identity.get_path_for_pki_asset('cert')}.", file=sys.stderr)
    print("Next: ./generate_tlsa.py shows the record to publish in DNS.", file=sys.stderr)


if __name__ == "__main__":
    run(main)
