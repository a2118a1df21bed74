"""Show the epoch keys of this device, or create keys for weeks ahead and print their records."""

import argparse
import json
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from idlib.output import harmless
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import EPOCH_PUBLISHING_READS, Settings

if TYPE_CHECKING:
    from idlib.epochs.record import SignedEpochRecord

_READS: Final = EPOCH_PUBLISHING_READS | {
    *("IDENTITY_NAME", "CRYPTO_PATH", "LOG_LEVEL", "DATA_PATH", "EPOCH_PATH", "EPOCH_KEYS"),
    *("STORE", "STORE_PASSWORD_FILE", "RECEIVER_GROUP"),
    *("DNS_RESOLVER", "DNS_CA_FILE", "DNSSEC", "DNSSEC_TRUST_ANCHORS", "PKIX_CA_FILE"),
}
_MOST_WEEKS: Final = 52


class RecordFormat(StrEnum):
    """The form in which records are printed."""

    TEXT = "text"
    ZONE = "zone"
    NSUPDATE = "nsupdate"
    OCTODNS = "octodns"
    JSON = "json"


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    action = next((word for word in sys.argv[1:] if word in _EXAMPLES), "status")
    line = parser(
        "status: show which epoch keys exist and until when, which are in DNS, and which one senders use now. records:"
        " create the keys for the next weeks, one for each EPOCH_LENGTH, and print the TXT records to publish by hand;"
        " keys that exist are printed again.",
        _EXAMPLES[action],
    )
    line.add_argument("action", choices=tuple(_EXAMPLES), metavar="ACTION", help=", ".join(_EXAMPLES))
    line.add_argument("--json", action="store_true", help="status: print one JSON object")
    line.add_argument("--weeks", type=_weeks, metavar="N", help="records: for how many weeks (default: 4)")
    line.add_argument(
        "--format", choices=tuple(map(str, RecordFormat)), help="records: text (default), zone, nsupdate, octodns, json"
    )
    return line


def main() -> None:
    """Show the keys, or print the records to publish."""
    line = command_line()
    options = line.parse_args()
    if options.action == "status" and (options.weeks is not None or options.format is not None):
        line.error("--weeks and --format belong to records")
    if options.action == "records" and options.json:
        line.error("--json belongs to status; for records, give --format json")
    require_stdout()
    settings = read_environment(_READS)
    if options.action == "status":
        _print_status(settings, as_json=options.json)
    else:
        _print_records(settings, options.weeks or 4, RecordFormat(options.format or RecordFormat.TEXT))


_EXAMPLES: Final = {
    "status": "IDENTITY_NAME=alice._device.example.com {program} status",
    "records": "EPOCH_LENGTH=7d IDENTITY_NAME=alice._device.example.com {program} records --weeks 4",
}


def _weeks(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= _MOST_WEEKS):
        raise argparse.ArgumentTypeError(f"give 1 to {_MOST_WEEKS} weeks")
    return int(text)


def _print_status(settings: Settings, *, as_json: bool) -> None:
    # Imported late, because --help needs none of it.
    from idlib.discovery import Discovery
    from messaging_receiver.epoch_status import epoch_status

    status = epoch_status(settings, Discovery.from_settings(settings))
    if as_json:
        fields = {
            "name": settings.identity_name.text,
            "mark": None if status.mark is None else status.mark.name.lower(),
            "keys": [line.fields() for line in status.lines],
            "problems": status.problems,
        }
        print(json.dumps(fields))
        return
    name = settings.identity_name
    print(f"{name}: {'DNS could not be asked' if status.mark is None else status.mark.value}.")
    for line in status.lines:
        print(line.text())
    if not status.lines:
        print("There is no epoch key.")
    for problem in status.problems:
        print(harmless(problem), file=sys.stderr)


def _print_records(settings: Settings, weeks: int, form: RecordFormat) -> None:
    # Imported late, because --help needs none of it.
    from idlib.discovery.lookup import epoch_owner
    from idlib.epochs.halves import Halves, identity_fingerprint
    from idlib.epochs.record import SignedEpochRecord
    from idlib.epochs.schedule import Now
    from idlib.keys import key_path, read_private_key
    from idlib.output import counted, rfc3339
    from messaging_receiver.epoch_plan import keys_ahead, number_of_keys
    from messaging_receiver.epoch_upkeep import lifetimes_of
    from messaging_receiver.running_time import elapsed_of

    lifetimes = lifetimes_of(settings)
    number = number_of_keys(weeks, lifetimes)
    name = settings.identity_name
    # Before a key is created for it.
    epoch_owner(name)
    key = read_private_key(key_path(settings.crypto_path, name))
    now = Now(_credible_time(), elapsed_of(settings))
    halves = Halves(settings.epoch_directory, name)
    kept = keys_ahead(halves, now, lifetimes, identity_fingerprint(key.public), number)
    print(_in(form, settings, [SignedEpochRecord.create(one.record, name, key) for one in kept]), end="")
    last = kept[-1].half
    print(
        f"Publish {counted(len(kept), 'TXT record')} in place of all earlier epoch records; publish the next ones"
        f" before {rfc3339(lifetimes.replaced_at(last))}. A thief of this device can read what is sent until"
        f" {rfc3339(last.until)}, because the private halves are on it.",
        file=sys.stderr,
    )


def _credible_time() -> int:
    from idlib.errors import ClockError
    from idlib.trust import EARLIEST_CREDIBLE_TIME

    now = int(time.time())
    if now < EARLIEST_CREDIBLE_TIME:
        raise ClockError("the clock of this device is not set", "wait for its time server, or set it")
    return now


def _in(form: RecordFormat, settings: Settings, records: "list[SignedEpochRecord]") -> str:
    from idlib.printed_records import PrintedRecords
    from idlib.publishing import epoch_place
    from idlib.publishing.epoch_publication import MAX_TTL_SECONDS, TTL_PARTS

    ttl = min(settings.epoch_length // TTL_PARTS, MAX_TTL_SECONDS)
    owner = epoch_place(settings.identity_name).owner
    values = [" ".join(f'"{string.decode()}"' for string in record.to_strings()) for record in records]
    printed = PrintedRecords(owner, ttl, "TXT", values)
    match form:
        case RecordFormat.NSUPDATE:
            return printed.nsupdate()
        case RecordFormat.OCTODNS:
            return printed.octodns([[record.to_text().decode()] for record in records])
        case RecordFormat.JSON:
            return printed.json()
        case RecordFormat.ZONE:
            return printed.zone()
    shown = "".join(f"TXT record for {owner}: {record.to_text().decode()}\n" for record in records)
    return f"{shown}{printed.zone()}"
