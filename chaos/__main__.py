"""Inject faults while messages flow, then compare what was sent with what was printed; status 1 if they differ."""

import argparse
import secrets
import sys
import time

from chaos.fault_injector import open_fault_injector
from chaos.kinds import KINDS
from lab.interruption import raise_when_signalled

_SECONDS_BETWEEN_STRIKES = 2.0


def main() -> int:
    """Inject faults for the given time, print the report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.seconds:g} s", file=sys.stderr, flush=True)
    raise_when_signalled()
    with open_fault_injector(seed) as (injector, replayer):
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            replayer.listen_and_repeat(_SECONDS_BETWEEN_STRIKES)
            injector.strike()
        report = injector.settle()
    print(f"seed {seed}: {arguments.seconds:g} s")
    for name, number in sorted(injector.events.items()):
        print(f"  {number:4}  {name}")
    for reason, number in sorted(injector.refusals.items()):
        print(f"  {number:4}  refused with reason={reason}")
    for (options, result), number in sorted(report.promised.items()):
        print(f"{number:6}  reported as {result} by send_message.py {options}")
    shown = " ".join(promise.text for promise in report.lost[:20])
    print(f"{len(report.lost):6}  of these were never printed{': ' if report.lost else ''}{shown}")
    print(f"{replayer.number_replayed:6}  messages published again by an eavesdropper")
    print(f"{report.replayed:6}  lines printed twice, because of a replay or for another unexplained reason")
    print(
        f"{report.repeated:6}  lines repeated because the receiver was killed {report.kills} times (allowed: 32 each)"
    )
    has_each_sent = {options for options, _ in report.promised} >= {kind.name for kind in KINDS}
    return 1 if report.lost or report.replayed or not has_each_sent else 0


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    command_line.add_argument("--seconds", type=float, default=600, help="how long to inject faults (default: 600)")
    command_line.add_argument("--seed", type=int, help="repeat the faults of an earlier run (default: random)")
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
