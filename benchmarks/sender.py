"""Seconds that one send_message.py takes: from the start of the process to its end, the acknowledgement included."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.comparison import RUNS, Better, Comparison, Sample
from benchmarks.environment import BenchmarkEnvironment
from benchmarks.table import show
from testbed.programs import Result

_PUBLISHED_PROGRAM: Final = Path(__file__).parents[1] / "testbed/published_program.py"


def compare(world: BenchmarkEnvironment) -> Comparison:
    """Measure our program and the published article's in turn, after one run of each to fill caches."""
    sender = world.lab.published_device("sender")
    recipient = world.lab.published_device("recipient")
    # So that the broker queues the messages.
    with recipient.receiver() as receiver:
        receiver.stop()

    def send() -> Result:
        return sender.send(recipient, "Good morning")

    def send_as_published() -> Result:
        return sender.run(_PUBLISHED_PROGRAM, recipient.name, "Good morning")

    programs = [send] if world.obstacle else [send, send_as_published]
    rounds = [[_seconds(program) for program in programs] for _ in range(1 + RUNS)][1:]
    ours, *reference = (Sample(figures) for figures in zip(*rounds, strict=True))
    return Comparison("seconds for one send_message", Better.LOWER, ours, reference[0] if reference else None)


def _seconds(run: Callable[[], Result]) -> float:
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    assert result.status == 0, result
    return seconds


if __name__ == "__main__":
    sys.exit(show(compare))
