"""What `make chaos` runs: a storm, then the comparison of the books; status 1 where something was lost or replayed."""

import argparse
import secrets
import signal
import sys
import time

from chaos.storm import open_storm
from lab.interruption import raise_when_signalled


def main() -> int:
    """Strike for the given time, report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.seconds:g} s", file=sys.stderr, flush=True)
    raise_when_signalled()
    with open_storm(seed, signal.Signals[f"SIG{arguments.broker_signal}"]) as (storm, replayer, recipient):
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            replayer.listen_and_repeat(recipient, 3.0)
            storm.strike()
        books = storm.settle()
    print(f"seed {seed}: {arguments.seconds:g} s")
    for name, number in sorted(storm.faults.items()):
        print(f"  {number:4}  {name}")
    for reason, number in sorted(storm.refusals.items()):
        print(f"  {number:4}  refused, {reason}")
    print(f"{len(books.acknowledged):6}  messages acknowledged")
    print(f"{len(books.lost):6}  of them lost{': ' if books.lost else ''}{' '.join(books.lost[:20])}")
    print(f"{replayer.number_replayed:6}  replayed by an eavesdropper")
    print(f"{books.replayed:6}  printed by a replay")
    print(f"{books.repeated:6}  repeated by {books.kills} kills of the receiver, at most 32 by each")
    return 1 if books.lost or books.replayed or not books.acknowledged else 0


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    command_line.add_argument("--seconds", type=float, default=600)
    command_line.add_argument("--seed", type=int, help="of an earlier run, to let the same happen again")
    command_line.add_argument(
        "--broker-signal",
        choices=("TERM", "KILL"),
        default="TERM",
        help="how the broker is ended; Mosquitto loses what it has acknowledged since its last save when it is killed",
    )
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
