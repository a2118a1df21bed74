#!/usr/bin/env -S sh -c 'p=$(realpath "$0");p=${p%/*/*/*/*}/.venv/bin/python;[ -x "$p" ]||p=python3;exec "$p" "$0" "$@"'
"""Show the TLSA record that makes the device known."""

if __name__ == "__main__":
    try:
        # Before what takes long to import.
        from idlib.interruption import end_when_interrupted
    except ModuleNotFoundError:
        raise SystemExit("Run make setup in the checkout, then start this program without python3 in front.") from None

    end_when_interrupted()

import sys
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from idlib.bootstrap import Bootstrap
from idlib.environment import read_environment
from idlib.program import parser, require_stdout, run
from idlib.settings import MAINTENANCE_READS

TIME_TO_LIVE_SECONDS: Final = 300


def main() -> None:
    """Print the record, and the same as a line of a zone file."""
    command_line = parser(
        "Print the TLSA record of IDENTITY_NAME's certificate in CRYPTO_PATH, and the same as a zone-file line.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity ./generate_tlsa.py",
    )
    command_line.add_argument(
        "--selector",
        choices=("0", "1"),
        default="0",
        help="0: the certificate (default), which all can read; 1: its public key alone, which is smaller",
    )
    selector = command_line.parse_args().selector
    require_stdout()
    identity = Bootstrap.from_settings(read_environment(MAINTENANCE_READS))
    renderers = {"0": identity.render_tlsa_record, "1": identity.render_public_key_tlsa_record}
    name, record = identity.identity_name, renderers[selector]()
    print(f"TLSA record for {name}: {record}")
    print(f"{name}. {TIME_TO_LIVE_SECONDS} IN TLSA {record}")
    print(
        f"Publish it at {name} in a zone that is signed with DNSSEC, then look: dig +dnssec {name} TLSA",
        file=sys.stderr,
    )
    if selector == "1" or not isinstance(identity.get_private_key_obj(), rsa.RSAPrivateKey):
        print(
            "Devices with this software read it; those on dane-jwe-jws read RSA keys in records 3 0 0 alone.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
