#!/usr/bin/env -S sh -c 'p=${0%/*}/../../../.venv/bin/python; [ -x "$p" ] || p=python3; exec "$p" "$0" "$@"'
"""Show the TLSA record that makes the device known."""

import sys
from typing import Final

from idlib.bootstrap import Bootstrap
from idlib.program import parser, read_settings, run

TIME_TO_LIVE_SECONDS: Final = 300


def main() -> None:
    """Print the record, and the same as a line of a zone file."""
    parser(
        "Print the TLSA record of IDENTITY_NAME's certificate in CRYPTO_PATH, and the same as a zone-file line.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=./identity ./generate_tlsa.py",
    ).parse_args()
    identity = Bootstrap.from_settings(read_settings())
    name, record = identity.identity_name, identity.render_tlsa_record()
    print(f"TLSA record for {name}: {record}")
    print(f"{name}. {TIME_TO_LIVE_SECONDS} IN TLSA {record}")
    print(
        f"Publish it at {name} in a zone that is signed with DNSSEC, then look: dig +dnssec {name} TLSA",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
