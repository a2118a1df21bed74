"""Inject faults while messages flow, then compare what was sent with what was printed; status 1 if they differ."""

import argparse
import secrets
import sys
import time

from chaos.delivery_report import DeliveryReport
from chaos.fault_injector import open_fault_injector
from chaos.home_report import HomeReport
from chaos.home_speaker import OPTIONS
from chaos.kinds import KINDS
from lab.interruption import raise_when_signalled

_SECONDS_BETWEEN_STRIKES = 2.0


def main() -> int:
    """Inject faults for the given time, print the report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.seconds:g} s", file=sys.stderr, flush=True)
    raise_when_signalled()
    with open_fault_injector(seed) as (injector, replayer, home):
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            replayer.listen_and_repeat(_SECONDS_BETWEEN_STRIKES)
            injector.strike()
        report, home_report = injector.settle(home)
    print(f"seed {seed}: {arguments.seconds:g} s")
    for name, number in sorted(injector.events.items()):
        print(f"  {number:4}  {name}")
    for reason, number in sorted(injector.refusals.items()):
        print(f"  {number:4}  refused with reason={reason}")
    for (options, result), number in sorted(report.promised.items()):
        by = "the local broker on out/" if options == OPTIONS else f"send_message.py {options}"
        print(f"{number:6}  reported as {result} by {by}")
    shown = " ".join(promise.text for promise in report.lost[:20])
    print(f"{len(report.lost):6}  of these were never printed{': ' if report.lost else ''}{shown}")
    print(f"{replayer.number_replayed:6}  messages published again by an eavesdropper")
    print(f"{report.replayed:6}  lines printed twice, because of a replay or for another unexplained reason")
    print(
        f"{report.repeated:6}  lines repeated because the receiver was killed {report.kills} times (allowed: 32 each)"
    )
    _print_home(report, home_report)
    has_each_sent = {options for options, _ in report.promised} >= {OPTIONS, *(kind.name for kind in KINDS)}
    has_failed = report.lost or report.replayed or not has_each_sent or not home_report.is_good
    return 1 if has_failed else 0


def _print_home(report: DeliveryReport, home: HomeReport) -> None:
    for what, number, names in (
        ("messages passed on to the local broker", home.arrived, ()),
        ("reported as sent or acknowledged, and never passed on", len(home.lost), [one.text for one in home.lost]),
        (f"passed on again because of {home.faults} faults (allowed: 32 each)", home.repeated, ()),
        ("lines repeated because the local broker delivered a message on out/ again", report.sent_again, ()),
        ("topics or messages that went round in a circle", len(home.circling), home.circling),
    ):
        print(f"{number:6}  {what}{': ' if names else ''}{' '.join(names[:20])}")


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    command_line.add_argument("--seconds", type=float, default=600, help="how long to inject faults (default: 600)")
    command_line.add_argument("--seed", type=int, help="repeat the faults of an earlier run (default: random)")
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
