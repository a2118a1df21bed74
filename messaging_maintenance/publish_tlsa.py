"""Put the device's TLSA record into DNS, and read it back from every name server of the zone."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from idlib.commands import command
from idlib.errors import ConfigurationError
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS, PUBLISHING_READS

if TYPE_CHECKING:
    from idlib.publishing.publication import Publication
    from idlib.publishing.zone import Zone

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS
_MOST_SECONDS: Final = 86_400


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Publish the TLSA record of IDENTITY_NAME's certificate in CRYPTO_PATH by the method DNS_PUBLISH, and wait"
        " until every name server of the zone has it. Without DNS_PUBLISH, print what to enter.",
        "IDENTITY_NAME=alice._device.example.com DNS_PUBLISH=rfc2136 DNS_UPDATE_KEY_FILE=~/messenger/update.key"
        " {program}",
    )
    line.add_argument(
        "--remove",
        action="store_true",
        help="remove every TLSA record of the device; needs no key. If the device was stolen, first revoke the"
        " credential for DNS that it holds",
    )
    line.add_argument("--remove-foreign", action="store_true", help="remove records of unknown keys")
    line.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="how long to wait for every name server (default: 120)",
    )
    return line


def main() -> None:
    """Publish or remove the record, and print what has changed."""
    line = command_line()
    options = line.parse_args()
    if options.remove and options.remove_foreign:
        line.error("--remove already removes every record")
    require_stdout()
    settings = read_environment(_READS)
    if settings.dns_publish is None and options.remove:
        raise ConfigurationError("Error: DNS_PUBLISH is not set; set it, or remove the record at your DNS provider")
    # Imported late, because --help needs none of it.
    from messaging_maintenance.record_text import print_record

    if settings.dns_publish is None:
        print_record(settings)
        return
    from idlib.bootstrap import Bootstrap
    from messaging_maintenance.publishing import open_publishing
    from messaging_maintenance.rotation.records import records_to_publish
    from messaging_maintenance.rotation.republish import publish_only_records, publish_records

    identity = Bootstrap.from_settings(settings)
    if not options.remove:
        # Before DNS is asked: a missing key is the first thing to say.
        records_to_publish(identity, settings)
    publishing, zone = open_publishing(settings, options.timeout)
    if options.remove:
        print("If the device was stolen, first revoke the credential for DNS that it holds.", file=sys.stderr)
        _print_removal(publishing.withdraw(), zone)
    else:
        publish = publish_only_records if options.remove_foreign else publish_records
        print_outcome(publish(publishing, identity, settings), zone)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"give more than 0 and at most {_MOST_SECONDS} seconds")
    return seconds


def print_outcome(publication: "Publication", zone: "Zone") -> None:
    """Print what publishing has changed, who serves it, and how long caches may differ.

    Args:
        publication: What has changed.
        zone: The zone of the name.
    """
    from idlib.publishing.change import shorten

    change = publication.change
    if change.is_empty:
        print(f"Nothing to change: {change.name} has its record, with a TTL of {change.after.ttl} s.")
    if change.before.rdatas and change.before.ttl != change.after.ttl:
        print(f"changed  the TTL from {change.before.ttl} s to {change.after.ttl} s")
    for rdata in change.add:
        print(f"added    {shorten(rdata)}")
    for rdata in change.remove:
        print(f"removed  {shorten(rdata)}")
    publish = command("identity publish")
    for rdata in publication.foreign:
        print(f"kept     {shorten(rdata)}  (unknown key; {publish} --remove-foreign removes it)")
    _print_servers(publication, zone)
    _print_caches(publication, zone)


def _print_removal(publication: "Publication", zone: "Zone") -> None:
    change = publication.change
    if change.is_empty:
        print(f"Nothing to change: {change.name} has no TLSA record.")
    else:
        number = len(change.remove)
        print(f"Removed {number} record{'s' * (number > 1)} of {change.name}.")
    _print_servers(publication, zone)
    _print_caches(publication, zone)


def _print_servers(publication: "Publication", zone: "Zone") -> None:
    servers = ", ".join(str(answer.server) for answer in publication.served if answer.has_route)
    print(f"Every name server of {zone.name} agrees: {servers}.")
    if skipped := ", ".join(str(answer.server) for answer in publication.served if not answer.has_route):
        print(f"Not asked, because this device has no route to them: {skipped}.", file=sys.stderr)
    for host in zone.unresolved:
        print(f"The name server {host} has no address and was not asked.", file=sys.stderr)


def _print_caches(publication: "Publication", zone: "Zone") -> None:
    change = publication.change
    if change.is_empty:
        return
    if change.before.rdatas:
        print(f"Caches may hold the old records for another {change.before.ttl} s.")
    else:
        print(f"Resolvers that were asked before may report for up to {zone.negative_ttl} s that there is no record.")
