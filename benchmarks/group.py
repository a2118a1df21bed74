"""Several receivers of one name: what a message costs 1, 2 and 4 of them, and their rate beside the SQLite receiver.

All receivers of a group share one PostgreSQL on this machine, whose commits wait for the disk. Each opens messages with
one worker process. The groups take turns, so that a slow moment of the machine affects all of them.
"""

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.receiver import pair, sealed
from benchmarks.report import run
from benchmarks.running_receiver import RunningReceiver
from benchmarks.target import Better, Target
from testbed.daemons.postgresql import Postgresql
from testbed.programs import Device

_MESSAGES: Final = 3000
_WARMING: Final = 200
_POLL_SECONDS: Final = 0.01
_SIZES: Final = (1, 2, 4)
_ONE: Final = "1 receiver"
_CPU: Final = "CPU time of all receivers of a group for each message"
_CPU_LIMITS: Final = {2: (1.1, 1.0), 4: (None, None)}
_numbers: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class _Burst:
    """What a burst has cost.

    Args:
        rate: The messages a second, from the first line to the last.
        microseconds: The CPU time of the receivers for each message.
    """

    rate: float
    microseconds: float


class _Group:
    """Receivers of one name, which run, and a sender.

    Args:
        sender: The sender.
        recipient: The recipient.
        receivers: Its receivers.
    """

    def __init__(self, sender: Device, recipient: Device, receivers: Sequence[RunningReceiver]) -> None:
        self._sender = sender
        self._recipient = recipient
        self._receivers = receivers

    def print(self, number: int) -> _Burst:
        """Let the receivers print a burst, and return what that has cost.

        Args:
            number: How many messages.
        """
        with sealed(self._sender, self._recipient, number) as burst:
            first, used = self._lines(), self._processor_seconds()
            burst.write("\n")
            self._wait_for(first + 1)
            begun, started = self._lines(), time.perf_counter()
            self._wait_for(first + number)
            seconds = time.perf_counter() - started
        # The last group is printed before it is recorded.
        self._wait_until_recorded()
        used = self._processor_seconds() - used
        assert self._lines() == first + number + 1, "a message was printed twice"
        return _Burst((first + number - begun) / seconds, 1e6 * used / number)

    def _wait_until_recorded(self) -> None:
        text = f"message number {next(_numbers)} after a burst"
        result = self._sender.send(self._recipient, text)
        assert result.status == 0, result
        self._receivers[0].wait_until(lambda: any(text in one.last_lines() for one in self._receivers), "last message")

    def _wait_for(self, lines: int) -> None:
        self._receivers[0].wait_until(lambda: self._lines() >= lines, f"{lines} lines of all receivers")

    def _lines(self) -> int:
        return sum(one.lines() for one in self._receivers)

    def _processor_seconds(self) -> float:
        return sum(one.processor_seconds() for one in self._receivers)


def measure(world: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Measure groups of 1, 2 and 4 receivers, and the receiver that remembers in SQLite."""
    with contextlib.ExitStack() as stack:
        postgresql = stack.enter_context(Postgresql())
        alone = _open_alone(world, stack)
        groups = {size: _open_group(world, stack, postgresql, size) for size in _SIZES}
        bursts: dict[int, list[_Burst]] = {size: [] for size in _SIZES}
        rates, database = [], []
        for group in (alone, *groups.values()):
            group.print(_WARMING)
        for _ in range(RUNS):
            rates.append(alone.print(_MESSAGES).rate)
            for size, group in groups.items():
                used = postgresql.processor_seconds()
                bursts[size].append(group.print(_MESSAGES))
                if size == 1:
                    database.append(1e6 * (postgresql.processor_seconds() - used) / _MESSAGES)
    costs = {size: Sample(tuple(one.microseconds for one in found)) for size, found in bursts.items()}
    yield Measurement(Target(f"{_CPU}, {_ONE}", "µs", "", Better.LOWER), costs[1])
    for size, limits in _CPU_LIMITS.items():
        yield Measurement(Target(f"{_CPU}, {size} receivers", "µs", _ONE, Better.LOWER, *limits), costs[size], costs[1])
    yield Measurement(
        Target(f"CPU time of PostgreSQL for each message, {_ONE}", "µs", "", Better.LOWER), Sample(tuple(database))
    )
    for size, found in bursts.items():
        words = _ONE if size == 1 else f"{size} receivers"
        target = Target(
            f"group of {words} and PostgreSQL, two cores", "messages/s", "SQLite, 1 receiver", Better.HIGHER
        )
        yield Measurement(target, Sample(tuple(one.rate for one in found)), Sample(tuple(rates)))


def _open_alone(world: BenchmarkEnvironment, stack: contextlib.ExitStack) -> _Group:
    sender, recipient = pair(world, "rsa2048")
    recipient = recipient.with_settings(RECEIVER_WORKERS="1")
    return _Group(sender, recipient, [stack.enter_context(RunningReceiver(recipient))])


def _open_group(world: BenchmarkEnvironment, stack: contextlib.ExitStack, postgresql: Postgresql, size: int) -> _Group:
    sender, recipient = pair(world, "rsa2048")
    store = postgresql.socket_url(postgresql.new_database())
    receivers = []
    for number in range(size):
        place = recipient.crypto_path.parent / str(number)
        place.mkdir()
        device = recipient.with_settings(
            STORE=store, RECEIVER_GROUP="on", RECEIVER_WORKERS="1", DATA_PATH=str(place / "data")
        )
        receivers.append(stack.enter_context(RunningReceiver(device)))
    return _Group(sender, recipient, receivers)


if __name__ == "__main__":
    sys.exit(run(measure))
