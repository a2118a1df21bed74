"""Change the device's key without losing a message: start, status, switch, finish."""

import argparse
import math
import sys
from typing import TYPE_CHECKING, Final

from idlib.errors import KeyFileError
from idlib.keys import MAX_FILE_BYTES
from idlib.output import harmless
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import MAINTENANCE_READS, PUBLISHING_READS, ROTATION_READS, Settings

if TYPE_CHECKING:
    from idlib.publishing.by_hand import ManualChangeError
    from idlib.publishing.name_servers import Served
    from messaging_maintenance.rotation.state import RotationState
    from messaging_maintenance.rotation.steps import NextStep, Rotation

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS
_ACTIONS: Final = ("start", "certificate", "status", "switch", "finish")
_COST_OF_COMPROMISE: Final = (
    "Until the old record has left every cache, recipients that still have it refuse what this device sends"
    " (signature-invalid), and the holder of the old key can write in this device's name to them."
)
_COST_OF_A_SINGLE_RECORD: Final = (
    "With a single record, messages that were sent before the switch and are read after it are refused, and so are"
    " messages sent within about {} after it."
)


def main() -> None:
    """Take one step of a rotation, or show its stage."""
    arguments = _read_arguments()
    require_stdout()
    settings = read_environment(_READS)
    # Imported late, because --help needs none of it.
    from idlib.publishing.by_hand import ManualChangeError
    from messaging_maintenance.publishing import open_publishing
    from messaging_maintenance.rotation.steps import Rotation

    publishing, zone = open_publishing(settings)
    rotation = Rotation(settings, publishing, report=_report)
    try:
        _act(rotation, arguments)
    except ManualChangeError as error:
        _print_change(error, settings.tlsa_ttl)
        raise
    if arguments.action == "status":
        from idlib.publishing.name_servers import read_from_all

        state = rotation.state()
        _print_servers(read_from_all(zone, settings.identity_name), _names_of_records(state, settings))
        if state is not None:
            print(f"Stage: {state.stage} ({state.way}).")
    _print_next(rotation.next_step(), arguments.action)


def _read_arguments() -> argparse.Namespace:
    command_line = parser(
        "Change the key of IDENTITY_NAME without losing a message. start creates the next key and publishes its record"
        " beside the old one; switch signs with the new key; finish removes the old record and, when run again later,"
        " the old private key. A step that is not safe yet is refused; status says what is next, and when.",
        "{program} start",
    )
    command_line.add_argument("action", nargs="?", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    command_line.add_argument("--abort", action="store_true", help="give up the next key, before the switch")
    ways = command_line.add_mutually_exclusive_group()
    ways.add_argument(
        "--single", action="store_true", help="start: never publish two records, for peers on dane-jwe-jws"
    )
    ways.add_argument(
        "--compromised", action="store_true", help="start: replace a stolen or lost key at once, whatever is lost"
    )
    command_line.add_argument(
        "--csr",
        action="store_true",
        help="start: print a certificate signing request for the next key; give the certificate to: certificate < FILE",
    )
    arguments = command_line.parse_args()
    if arguments.action != "start" and (arguments.single or arguments.compromised or arguments.csr):
        command_line.error("--single, --compromised and --csr belong to start")
    if (arguments.action is None) != arguments.abort:
        command_line.error("give either an action or --abort")
    return arguments


def _act(rotation: "Rotation", arguments: argparse.Namespace) -> None:
    match arguments.action:
        case "start":
            _start(rotation, arguments)
        case "certificate":
            rotation.install(_read_certificate())
        case "switch":
            rotation.switch()
        case "finish":
            rotation.finish()
        case None:
            rotation.abort()


def _start(rotation: "Rotation", arguments: argparse.Namespace) -> None:
    from messaging_maintenance.rotation.state import Way

    way = Way.OVERLAP
    if arguments.single:
        way = Way.SINGLE
        _report(_cost_of_a_single_record(rotation.lowered_ttl()))
    if arguments.compromised:
        way = Way.COMPROMISED
        _report(_COST_OF_COMPROMISE)
    if arguments.csr:
        print(rotation.request(way).decode(), end="")
    else:
        rotation.start(way)


def _cost_of_a_single_record(ttl: int) -> str:
    """Return what a rotation with a single record costs, if its TTL cannot be lowered further than this."""
    minutes = math.ceil(ttl / 60)
    if minutes <= 1:
        return _COST_OF_A_SINGLE_RECORD.format("a minute")
    lasting = _COST_OF_A_SINGLE_RECORD.format(f"{minutes} minutes")
    return f"{lasting} The program cannot lower the TTL of the record below {ttl} s."


def _read_certificate() -> bytes:
    if sys.stdin is None:
        raise KeyFileError("stdin is closed", "give the certificate with < certificate.pem")
    if sys.stdin.isatty():
        _report("Paste the certificate, then press Ctrl-D.")
    pem = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(pem) > MAX_FILE_BYTES:
        raise KeyFileError("the input is too large for a certificate", f"give at most {MAX_FILE_BYTES} bytes")
    return pem


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _print_change(error: "ManualChangeError", ttl: int) -> None:
    from idlib.publishing.change import present

    for rdata in error.change.add:
        print(f"add     {error.change.name}. {ttl} IN TLSA {present(rdata)}")
    for rdata in error.change.remove:
        print(f"remove  {error.change.name}. IN TLSA {present(rdata)}")


def _names_of_records(state: "RotationState | None", settings: Settings) -> dict[bytes | None, str]:
    """Return what to call each known record, by its data; without a rotation, report if there is no key."""
    from idlib.bootstrap import Bootstrap

    names = {} if state is None else {state.old: "old", state.new: "next"}
    try:
        current = Bootstrap.from_settings(settings).tlsa_record(settings.tlsa_selector).to_rdata()
    except KeyFileError as error:
        # During a rotation, a step that was interrupted explains it.
        if state is None:
            _report(harmless(f"The device has no usable key: {error}"))
        return names
    return {**names, current: "current"}


def _print_servers(served: "tuple[Served, ...]", names: dict[bytes | None, str]) -> None:
    from idlib.publishing.change import shorten

    for answer in served:
        if answer.records is None:
            print(f"{answer.server}: {answer.fault}")
            continue
        shown = ", ".join(f"{names.get(rdata, 'unknown')} ({shorten(rdata)})" for rdata in answer.records.rdatas)
        print(f"{answer.server}: {shown}; TTL {answer.records.ttl} s" if shown else f"{answer.server}: no record")


def _print_next(step: "NextStep | None", action: str | None) -> None:
    from messaging_maintenance.rotation.steps import shown_time

    if step is not None:
        time = "" if step.safe_at is None else f"; safe from {shown_time(step.safe_at)}"
        print(f"Next: {step.command}, to {step.what}{time}.")
    elif action == "status":
        print("No rotation is under way.")
    elif action is None:
        print("The next key was given up, and nothing is left to do.")
    else:
        print("The key was changed, and nothing is left to do.")
