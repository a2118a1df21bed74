"""Print the TLSA record that publishes the device's key."""

import dataclasses

from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS
from messaging_maintenance.record_text import print_record


def main() -> None:
    """Print the record, also as a zone-file line."""
    command_line = parser(
        "Print the TLSA record of IDENTITY_NAME's certificate in CRYPTO_PATH, also as a zone-file line.",
        "IDENTITY_NAME=alice._device.example.com CRYPTO_PATH=~/messenger/identity {program}",
    )
    command_line.add_argument(
        "--selector",
        choices=("0", "1"),
        help="0: the whole certificate (default, for all software); 1: only its public key (a smaller record)",
    )
    selector = command_line.parse_args().selector
    require_stdout()
    settings = read_environment(MAINTENANCE_READS | {"DNS_RESOLVER", "TLSA_SELECTOR", "TLSA_TTL"})
    if selector is not None:
        settings = dataclasses.replace(settings, tlsa_selector=int(selector))
    print_record(settings)
