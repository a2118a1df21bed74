"""What one call of a sender costs: beside the published article's program, and beside bare Python's start."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.measurement import Measurement, Sample
from benchmarks.report import run
from benchmarks.target import Better, Target
from testbed.daemons.process import free_port
from testbed.programs import SEND_MESSAGE, Device

_PUBLISHED_PROGRAM: Final = Path(__file__).parents[1] / "testbed/published_program.py"
# They are short, so that more of them are needed.
_RUNS: Final = 15
_SEND: Final = Target(
    "`send`, a new process for each message", "ms", "program on the reference libraries", Better.LOWER, 0.55, 0.50
)
_QUEUE: Final = Target(
    "`send --queue`, CPU time, broker away", "ms", "CPU time of `python -c pass`", Better.LOWER, 8, 5
)


def measure(world: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Measure our program and its peer in turn, after one run of each to fill caches."""
    sender = world.lab.published_device("sender")
    recipient = world.lab.published_device("recipient")
    # So that the broker queues the messages.
    with recipient.receiver() as receiver:
        receiver.stop()
    send = sender.command(SEND_MESSAGE, recipient.name, "Good morning")
    published = sender.command(_PUBLISHED_PROGRAM, recipient.name, "Good morning")
    yield _in_turn(_SEND, sender, _seconds, send, None if world.obstacle else published)
    away = sender.with_settings(MQTT_PORT=str(free_port()))
    yield _in_turn(_QUEUE, away, _processor_seconds, [*send, "--queue"], [sys.executable, "-c", "pass"])


def _in_turn(
    target: Target,
    device: Device,
    measured: Callable[[Sequence[str], Device], float],
    ours: Sequence[str],
    peer: Sequence[str] | None,
) -> Measurement:
    commands = [ours] if peer is None else [ours, peer]
    rounds = [[1000 * measured(command, device) for command in commands] for _ in range(1 + _RUNS)][1:]
    first, *rest = (Sample(figures) for figures in zip(*rounds, strict=True))
    return Measurement(target, first, rest[0] if rest else None)


def _seconds(command: Sequence[str], device: Device) -> float:
    started = time.perf_counter()
    _run(command, device)
    return time.perf_counter() - started


def _processor_seconds(command: Sequence[str], device: Device) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(command, device)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(command: Sequence[str], device: Device) -> None:
    done = subprocess.run(command, env=device.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, os.EX_TEMPFAIL), done


if __name__ == "__main__":
    sys.exit(run(measure))
