"""The benchmarks that `make bench` runs, in under 20 minutes; it writes docs/performance.md."""

import sys

from benchmarks import at_rest, fleet, group, group_replay, opening, receiver, replay, sender
from benchmarks.report import run_and_write

if __name__ == "__main__":
    sys.exit(
        run_and_write(
            receiver.measure,
            opening.measure,
            fleet.measure,
            sender.measure,
            at_rest.measure,
            replay.measure,
            group.measure,
            group_replay.measure,
        )
    )
