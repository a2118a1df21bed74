"""Kill and scale receivers of one name while messages travel; status 1 if one is lost, repeated or left behind."""

import argparse
import secrets
import sys
import time

from chaos.delivery_report import GROUP_SIZE
from chaos.group.evidence import GroupReport
from chaos.group.run import GroupChaos, open_group
from lab.interruption import raise_when_signalled


def main() -> int:
    """Inject faults, print the report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    how_long = f"{arguments.seconds:g} s" if arguments.messages is None else f"{arguments.messages} messages"
    print(f"group: seed {seed}, {how_long}", file=sys.stderr, flush=True)
    raise_when_signalled()
    begun = time.monotonic()
    with open_group(seed, arguments.messages) as group:
        end = time.monotonic() + arguments.seconds
        while group.is_publishing if arguments.messages is not None else time.monotonic() < end:
            group.strike()
        report = group.settle()
    print(f"group: seed {seed}: {how_long}, {time.monotonic() - begun:.0f} s in all")
    return _print(group, report)


def _print(group: GroupChaos, report: GroupReport) -> int:
    for name, number in sorted(group.events.items()):
        print(f"{number:6}  {name}")
    for reason, number in sorted(group.refusals.items()):
        print(f"{number:6}  refused with reason={reason}")
    print(f"{len(report.acknowledged):6}  messages acknowledged by the broker")
    print(f"{group.copies:6}  copies of them published")
    print(f"{group.rejected:6}  times the broker had no subscriber yet, so that the message was published again")
    print(f"{len(report.lost):6}  of these messages were never printed")
    print(f"{len(report.replayed):6}  printed again although no kill explains it")
    print(
        f"{report.repeated:6}  lines repeated because receivers were killed {report.receiver_kills} times and halted"
        f" {report.halts} times, and the database killed {report.database_kills} times (allowed: {GROUP_SIZE} each)"
    )
    print(f"{len(report.leftovers):6}  leases, sessions and other things left that should not be")
    for failure in report.failures:
        print(f"FAILED: {failure}")
    return 1 if report.failures else 0


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m chaos.group", description=__doc__)
    command_line.add_argument("--seconds", type=float, default=60, help="how long to inject faults (default: 60)")
    command_line.add_argument("--messages", type=int, help="inject faults until so many are published instead")
    command_line.add_argument("--seed", type=int, help="repeat the faults of an earlier run (default: random)")
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
