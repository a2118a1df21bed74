"""Print the TLSA records that publish the device's keys."""

import argparse
import dataclasses
import re

from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS, MAX_TLSA_TTL
from messaging_maintenance.record_formats import RecordFormat


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Print the TLSA record of IDENTITY_NAME's certificate in CRYPTO_PATH, to enter it into DNS; while the key is"
        " being changed, every record that belongs there now.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program}",
    )
    line.add_argument(
        "--selector",
        choices=("0", "1"),
        help="0: the whole certificate (default, for all software); 1: only its public key (a smaller record)",
    )
    line.add_argument(
        "--format",
        choices=tuple(map(str, RecordFormat)),
        default=RecordFormat.TEXT,
        help="text: for people and a zone file (default); zone: for a zone file; generic: the same for servers that do"
        " not know TLSA; nsupdate, octodns: for these tools; json: for programs",
    )
    line.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="how long caches may keep it (default: TLSA_TTL)")
    return line


def main() -> None:
    """Print the records in the form that is wanted."""
    options = command_line().parse_args()
    require_stdout()
    settings = read_environment(MAINTENANCE_READS | {"DNS_RESOLVER", "DNS_CA_FILE", "TLSA_SELECTOR", "TLSA_TTL"})
    if options.selector is not None:
        settings = dataclasses.replace(settings, tlsa_selector=int(options.selector))
    # Imported late, because --help needs none of it.
    from messaging_maintenance.record_text import print_record

    print_record(settings, RecordFormat(options.format), options.ttl)


def _seconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_TLSA_TTL:
        raise argparse.ArgumentTypeError(f"give 1 to {MAX_TLSA_TTL} seconds")
    return int(text)
