#!/usr/bin/env -S sh -c 'p=$(realpath "$0");p=${p%/*/*/*/*}/.venv/bin/python;[ -x "$p" ]||p=python3;exec "$p" "$0" "$@"'
"""Make the device's identity: a private key and a self-signed certificate."""

if __name__ == "__main__":
    try:
        # Before what takes long to import.
        from idlib.interruption import end_when_interrupted
    except ModuleNotFoundError:
        raise SystemExit("Run make setup in the checkout, then start this program without python3 in front.") from None

    end_when_interrupted()

import sys

from idlib.bootstrap import Bootstrap
from idlib.environment import read_environment
from idlib.program import beside, parser, run
from idlib.settings import MAINTENANCE_READS


def main() -> None:
    """Make private key and certificate."""
    arguments = parser(
        "Make a private key and a self-signed certificate for IDENTITY_NAME in CRYPTO_PATH.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity ./create_selfsigned_id.py",
    )
    arguments.add_argument(
        "--force", action="store_true", help="replace an existing key; it is kept as NAME.key.previous.pem"
    )
    force = arguments.parse_args().force
    identity = Bootstrap.from_settings(read_environment(MAINTENANCE_READS))
    if force:
        identity.replace_selfsigned_identity()
    else:
        identity.create_selfsigned_identity()
    print(f"{identity.identity_name} has a new key and certificate.", file=sys.stderr)
    print(f"Next: {beside('generate_tlsa.py')} shows the record to publish in DNS.", file=sys.stderr)


if __name__ == "__main__":
    run(main)
