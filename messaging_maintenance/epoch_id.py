"""Turn the use of epoch keys on or off, or publish the epoch records that the receiver has left."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from idlib.commands import command
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import (
    EPOCH_PUBLISHING_READS,
    MAINTENANCE_READS,
    PUBLISHING_READS,
    ROTATION_READS,
    Settings,
)

if TYPE_CHECKING:
    from idlib.publishing.by_hand import ManualChangeError
    from idlib.publishing.publication import Publication
    from messaging_maintenance.epoch_marking import EpochMarking

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS | EPOCH_PUBLISHING_READS
_ACTIONS: Final = ("on", "off", "publish", "status")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    # The verb of dane-messenger names the action, and its help shows that one.
    shown = next((word for word in sys.argv[1:] if word in _ACTIONS), "on")
    line = parser(
        "Epoch keys keep old messages closed if a device's key leaks. on: publish the epoch records that the receiver"
        " has left in EPOCH_SPOOL, then mark the certificate, so that senders use them. off: remove the mark and, when"
        " run again later, the records. publish: publish what is in EPOCH_SPOOL now. status: show what DNS has.",
        f"IDENTITY_NAME=alice._device.example.com DNS_PUBLISH=desec {{program}} {shown}",
    )
    line.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    return line


def main() -> None:
    """Take one step, or show what there is."""
    action = command_line().parse_args().action
    require_stdout()
    settings = read_environment(_READS)
    # Imported late, because --help needs none of it.
    from idlib.publishing.by_hand import ManualChangeError

    try:
        _act(action, settings)
    except ManualChangeError as error:
        _print_change(error, settings)
        raise


def _act(action: str, settings: Settings) -> None:
    match action:
        case "on":
            _print_outcome(_open(settings).turn_on())
            print(f"{settings.identity_name} is marked: senders encrypt to its epoch keys.")
        case "off":
            _turn_off(settings)
        case "publish":
            _publish(settings)
        case "status":
            _print_status(settings)


def _open(settings: Settings) -> "EpochMarking":
    from idlib.publishing import epoch_place
    from idlib.publishing.zone import HostResolver
    from messaging_maintenance.epoch_marking import EpochMarking, EpochPlace
    from messaging_maintenance.epoch_publishing import epoch_publishing_from
    from messaging_maintenance.publishing import open_publishing

    publishing, _ = open_publishing(settings)
    _, zone = HostResolver.from_settings(settings).follow(epoch_place(settings.identity_name))
    return EpochMarking(settings, publishing, EpochPlace(epoch_publishing_from(settings), zone), _report)


def _turn_off(settings: Settings) -> None:
    from messaging_maintenance.rotation.next_step import shown_time

    marking = _open(settings)
    publication = marking.turn_off()
    if publication is None:
        print(f"{settings.identity_name} does not use epoch keys, and DNS has no record of one.")
        return
    _print_outcome(publication)
    if (safe_at := marking.withdrawable_at()) is not None:
        print(f"{settings.identity_name} is no longer marked: senders encrypt to its identity key.")
        _report(
            "The receiver still needs its epoch keys. Next: run"
            f" {command('identity epoch off')} again after {shown_time(safe_at)}, to remove the epoch records."
        )
        return
    print(f"The epoch records of {settings.identity_name} are removed.")
    _report("Now set EPOCH_KEYS=off for the receiver; it destroys the private halves when they are due.")


def _publish(settings: Settings) -> None:
    from idlib.epochs.spool import no_spool
    from messaging_maintenance.epoch_publishing import publish_spool

    publication = publish_spool(settings)
    if publication is None:
        raise no_spool(settings.epoch_spool, settings.identity_name)
    _print_outcome(publication)


def _print_status(settings: Settings) -> None:
    from idlib.bootstrap import Bootstrap
    from idlib.output import counted, rfc3339
    from idlib.publishing.epoch_publication import epoch_texts
    from messaging_maintenance.epoch_marking import records_in
    from messaging_maintenance.epoch_publishing import epoch_publishing_from

    is_marked = Bootstrap.from_settings(settings).is_marked()
    print(f"The certificate is {'marked: senders use epoch keys' if is_marked else 'not marked'}.")
    publishing = epoch_publishing_from(settings)
    texts = epoch_texts(publishing.read().rdatas)
    print(f"{publishing.place.owner} has {counted(len(texts), 'epoch record')}.")
    for key_id, record in records_in(texts, settings.identity_name):
        print(f"{key_id}  from {rfc3339(record.start)}  until {rfc3339(record.until)}")


def _print_outcome(publication: "Publication") -> None:
    change = publication.change
    servers = ", ".join(str(answer.server) for answer in publication.served if answer.has_route)
    if change.is_empty:
        print(f"Nothing to change: {change.name} has its records, with a TTL of {change.after.ttl} s.")
    else:
        print(f"{change.name}: {len(change.add)} added, {len(change.remove)} removed.")
    print(f"Every name server agrees: {servers}.")
    if not change.is_empty and change.before.rdatas:
        print(f"Caches may hold the old records for another {change.before.ttl} s.")


def _print_change(error: "ManualChangeError", settings: Settings) -> None:
    """Print what is to be entered at the DNS provider; the type follows from the place."""
    from idlib.publishing.record_types import TLSA, TXT

    change = error.change
    record_type = TLSA if change.name == settings.identity_name else TXT
    for rdata in change.add:
        print(f"add     {change.name}. {change.after.ttl} IN {record_type} {record_type.present(rdata)}")
    for rdata in change.remove:
        print(f"remove  {change.name}. IN {record_type} {record_type.present(rdata)}")


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
