"""Change the device's key without losing a message: start, status, switch, finish."""

import argparse
import math
import sys
from typing import TYPE_CHECKING, Final

from idlib.errors import KeyFileError, PublishingError
from idlib.keys import MAX_FILE_BYTES
from idlib.output import harmless
from idlib.program.command_line import parser, require_stdout
from idlib.program.environment import read_environment
from idlib.settings import EPOCH_PUBLISHING_READS, MAINTENANCE_READS, PUBLISHING_READS, ROTATION_READS, Settings

if TYPE_CHECKING:
    from idlib.publishing.by_hand import ManualChangeError
    from idlib.publishing.name_servers import Served
    from messaging_maintenance.rotation.next_step import NextStep
    from messaging_maintenance.rotation.state import RotationState
    from messaging_maintenance.rotation.steps import Rotation

_READS: Final = MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS | EPOCH_PUBLISHING_READS
# After these, another key may sign.
_SWITCHING: Final = frozenset({"start", "certificate", "switch"})
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
    if arguments.action == "status":
        _print_status(settings)
        return
    # Imported late, because --help needs none of it.
    from idlib.publishing.by_hand import ManualChangeError
    from messaging_maintenance.publishing import open_publishing
    from messaging_maintenance.rotation.steps import Rotation

    publishing, _ = open_publishing(settings)
    rotation = Rotation(settings, publishing, report=_report)
    try:
        _act(rotation, arguments, settings)
    except ManualChangeError as error:
        _print_change(error)
        raise
    if arguments.action in _SWITCHING:
        from messaging_maintenance.epoch_following import publish_after_switch, publish_before_switch

        publish_before_switch(settings)
        publish_after_switch(rotation.state(), settings, _report)
    _print_next(rotation.next_step(), arguments.action)


def _print_status(settings: Settings) -> None:
    """Print the stage and the next step as the state on disk says, then what DNS has; needs no credential.

    Raises:
        KeyFileError: The state cannot be read.
        PublishingError: DNS cannot be asked.
    """
    from messaging_maintenance.rotation.next_step import recounted_step_of
    from messaging_maintenance.rotation.schedule import Instant, Waits
    from messaging_maintenance.rotation.state import state_file

    state, step = state_file(settings).read(), None
    if state is not None:
        print(f"Stage: {state.stage} ({state.way}).")
        step = recounted_step_of(state, Waits(settings.rotate_test_speed), Instant.now())
    _print_next(step, "status")
    names = _names_of_records(state, settings)
    # What is known so far is shown while DNS is asked.
    sys.stdout.flush()
    from idlib.publishing.name_servers import read_from_all
    from idlib.publishing.record_types import tlsa_place
    from idlib.publishing.zone import HostResolver

    try:
        served = read_from_all(
            HostResolver.from_settings(settings).find_zone(settings.identity_name), tlsa_place(settings.identity_name)
        )
    except PublishingError:
        _report("DNS could not be asked, so what the name servers have is not known.")
        raise
    _print_servers(served, names)
    if all(answer.records is None for answer in served):
        raise PublishingError("no name server answers, so what they have is not known", "check the network")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Change the key of IDENTITY_NAME without losing a message. start creates the next key and publishes its record"
        " beside the old one; switch signs with the new key; finish removes the old record and, when run again later,"
        " the old private key. A step that is not safe yet is refused; status says what is next, and when.",
        "{program} start",
    )
    line.usage = "%(prog)s [options] [ACTION]"
    line.add_argument("action", nargs="?", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    line.add_argument("--abort", action="store_true", help="give up the next key, before the switch")
    ways = line.add_mutually_exclusive_group()
    ways.add_argument(
        "--single", action="store_true", help="start: never publish two records, for peers on dane-jwe-jws"
    )
    ways.add_argument(
        "--compromised", action="store_true", help="start: replace a stolen or lost key at once, whatever is lost"
    )
    line.add_argument(
        "--csr",
        action="store_true",
        help="start: print a certificate signing request for the next key; give the certificate to: certificate < FILE",
    )
    return line


def _read_arguments() -> argparse.Namespace:
    line = command_line()
    arguments = line.parse_args()
    if arguments.action != "start" and (arguments.single or arguments.compromised or arguments.csr):
        line.error("--single, --compromised and --csr belong to start")
    if (arguments.action is None) != arguments.abort:
        line.error("give either an action or --abort")
    return arguments


def _act(rotation: "Rotation", arguments: argparse.Namespace, settings: Settings) -> None:
    match arguments.action:
        case "start":
            _start(rotation, arguments)
            if arguments.single and settings.dns_publish is None:
                _ask_for_short_ttl(rotation, settings)
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


def _ask_for_short_ttl(rotation: "Rotation", settings: Settings) -> None:
    """Print the old record with the short TTL that only the user can enter, if it has a longer one."""
    from messaging_maintenance.rotation.schedule import LOWERED_TTL
    from messaging_maintenance.rotation.state import Stage

    state = rotation.state()
    ttl = min(LOWERED_TTL, settings.tlsa_ttl)
    if state is None or state.stage is not Stage.LOWERED or rotation.lowered_ttl() <= ttl:
        return
    print(f"{settings.identity_name}. {ttl} IN TLSA {state.old_record}")
    _report(
        f"Enter the old record with this TTL now, if your DNS provider allows it: with {ttl} s, the messages of about"
        " a minute are refused."
    )


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


def _print_change(error: "ManualChangeError") -> None:
    from idlib.publishing.change import present

    for rdata in error.change.add:
        print(f"add     {error.change.name}. {error.change.after.ttl} IN TLSA {present(rdata)}")
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
    from messaging_maintenance.rotation.next_step import shown_time

    if step is not None:
        time = "" if step.safe_at is None else f"; safe from {shown_time(step.safe_at)}"
        print(f"Next: {step.command}, to {step.what}{time}.")
    elif action == "status":
        print("No rotation is under way.")
    elif action is None:
        print("The next key was given up, and nothing is left to do.")
    else:
        print("The key was changed, and nothing is left to do.")
