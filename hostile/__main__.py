"""Attack a receiver and print a report; status 1 if the receiver broke a promise of the docs."""

import argparse
import secrets
import sys
import time

from hostile import bounds
from hostile.attack import Attack
from hostile.environment import open_world
from hostile.evidence import Evidence
from hostile.tricks import TRICKS
from lab.interruption import raise_when_signalled
from testbed.table import print_table


def main() -> int:
    """Attack for the given time, print the report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    tricks = [trick for trick in TRICKS if not arguments.only or trick.name in arguments.only]
    print(f"seed {seed}, {arguments.seconds:g} s", flush=True)
    raise_when_signalled()
    began_at = time.monotonic()
    with open_world(seed) as world:
        if world.obstacle:
            print(f"NOT under the container's limits, so only peak memory is checked: {world.obstacle}", flush=True)
        evidence = Attack(world, arguments.seconds, seed, tricks).run()
    _report(evidence)
    faults = evidence.faults()
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"{'Failed' if faults else 'Passed'} after {time.monotonic() - began_at:.0f} s, seed {seed}")
    return 1 if faults else 0


def _report(evidence: Evidence) -> None:
    heading = ("junk", "handled/s", "sent/s", "known msgs", "p50 ms", "p99 ms")
    rows = [
        (
            one.name,
            f"{one.capacity:.0f}" if one.capacity else "",
            f"{one.rate:.0f}",
            str(len(one.delays)),
            f"{1000 * one.median:.0f}",
            f"{1000 * one.high:.0f}",
        )
        for one in evidence.measurements
    ]
    print_table(heading, rows)
    delivery = evidence.delivery
    print(
        f"{len(delivery.promises)} messages of known senders acknowledged, {len(delivery.lost)} of these never printed"
    )
    print(
        f"{delivery.repeated} lines repeated because of {delivery.kills} kills, {delivery.replayed} for another reason"
    )
    print("new names of one zone: {} sent, {} printed".format(*evidence.new_names))
    print("receipts for a known sender: {} requested, {} received".format(*evidence.receipts))
    for balance in evidence.balances:
        print(f"counted: {balance}")
    print(
        f"peak memory {evidence.peak_memory / 1e6:.1f} MB ({bounds.MEMORY_BYTES / 1e6:.0f} allowed),"
        f" disk {evidence.peak_disk / 1e6:.1f} MB ({bounds.DISK_BYTES / 1e6:.0f}),"
        f" log {evidence.peak_log_rate:.0f} B/s ({bounds.LOG_BYTES_A_SECOND}),"
        f" CPU after the attack {evidence.idle_share:.1%} ({bounds.IDLE_SHARE:.0%})"
    )


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m hostile", description=__doc__)
    command_line.add_argument("--seconds", type=float, default=600, help="how long to attack (default: 600)")
    command_line.add_argument("--seed", type=int, help="repeat the attack of an earlier run (default: random)")
    command_line.add_argument(
        "--only",
        action="append",
        choices=[trick.name for trick in TRICKS],
        help="send only this kind of junk; can be given more than once",
    )
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
