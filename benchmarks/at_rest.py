"""What a receiver costs that has little to do: idle, and with one message a second. All runs happen side by side."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.receiver import pair, print_one
from benchmarks.report import run
from benchmarks.running_receiver import RunningReceiver
from benchmarks.target import Better, Target
from testbed.programs import SEND_MESSAGE

_SECONDS: Final = 60
_CPU: Final = Target("idle receiver, share of a core", "%", "", Better.LOWER, 0.1, 0.05)
_WAKE_UPS: Final = Target("idle receiver, wake-ups", "a second", "", Better.LOWER, 5, 2)
_WRITTEN: Final = Target("disk writes for each message printed, at one a second", "KiB", "", Better.LOWER, 8, 6)


def measure(world: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Start as many receivers as there are runs; leave them alone for a minute, then send each one message a second."""
    with contextlib.ExitStack() as stack:
        pairs = [pair(world, "rsa2048") for _ in range(RUNS)]
        receivers = [stack.enter_context(RunningReceiver(recipient)) for _, recipient in pairs]
        for (device, recipient), receiver in zip(pairs, receivers, strict=True):
            print_one(device, recipient, receiver)
        time.sleep(5)
        before = [(receiver.processor_seconds(), receiver.wake_ups()) for receiver in receivers]
        time.sleep(_SECONDS)
        after = [(receiver.processor_seconds(), receiver.wake_ups()) for receiver in receivers]
        used = list(zip(before, after, strict=True))
        yield Measurement(_CPU, Sample(tuple(100 * (end[0] - begin[0]) / _SECONDS for begin, end in used)))
        yield Measurement(_WAKE_UPS, Sample(tuple((end[1] - begin[1]) / _SECONDS for begin, end in used)))

        senders = [
            stack.enter_context(device.start(SEND_MESSAGE, recipient.name, "--lines")) for device, recipient in pairs
        ]
        written = [receiver.written() for receiver in receivers]
        printed = [receiver.lines() for receiver in receivers]
        for number in range(_SECONDS):
            for sender in senders:
                sender.write(f"reading {number}\n")
            time.sleep(1)
        for receiver, first in zip(receivers, printed, strict=True):
            receiver.wait_for_lines(first + _SECONDS)
        kibibytes = [
            (receiver.written() - first) / 1024 / _SECONDS for receiver, first in zip(receivers, written, strict=True)
        ]
        yield Measurement(_WRITTEN, Sample(tuple(kibibytes)))


if __name__ == "__main__":
    sys.exit(run(measure))
