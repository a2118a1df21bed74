"""Messages a second that the receiver prints, through Mosquitto, from the first of a burst to the last.

On one core the receiver is halted while the broker takes the burst, so that publishing costs it no processor time. On
two cores the broker and the publisher run beside it. The peer is OpenSSL's speed on one core, measured just before. It
has printed one message before, so that the steady state is measured: the sender's certificate is in its cache then.
"""

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.machine import rsa_operations
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.report import run
from benchmarks.running_receiver import PATIENCE_SECONDS, RunningReceiver
from benchmarks.target import Better, Target
from testbed.programs import Device, Program

BURST: Final = Path(__file__).with_name("burst.py")
_TTL_SECONDS: Final = 3600
_PEER: Final = "openssl speed rsa2048, one core"
# The two cores of the smallest machine that this is run on.
_CORE: Final = "0"
_MAX_BYTES: Final = "200000"


@dataclass(frozen=True, slots=True)
class Load:
    """What the receiver has to print in each run.

    Args:
        key_type: The KEY_TYPE of sender and recipient.
        length: The bytes of each text.
        number: How many messages.
    """

    key_type: str
    length: int
    number: int


_ON_ONE_CORE: Final = {
    Load("rsa2048", 100, 4000): (0.52, 0.56),
    Load("p256", 100, 6000): (0.80, 1.0),
}
_ON_TWO_CORES: Final = {
    Load("rsa2048", 100, 6000): (0.90, 1.05),
    Load("rsa2048", 10_000, 3000): (0.50, 0.70),
    Load("rsa2048", 60_000, 1000): (0.25, 0.40),
}
_NUMBERS: Final = itertools.count()
_JUNK: Final = Target(
    "CPU time of a message for another name, refused before the private key is used",
    "µs",
    "a message that is printed, RSA-2048, 100 bytes",
    Better.LOWER,
    0.15,
    0.10,
)


def measure(world: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Measure each kind of load on one core, then on two, then messages for another name."""
    for load, limits in _ON_ONE_CORE.items():
        yield _measure(world, f"{_words(load)}, one core", load, limits, ("taskset", "-c", _CORE))
    for load, limits in _ON_TWO_CORES.items():
        yield _measure(world, f"{_words(load)}, two cores, broker and publisher beside it", load, limits, ())
    yield _measure_junk(world)


def pair(world: BenchmarkEnvironment, key_type: str) -> tuple[Device, Device]:
    """Return a published sender and a published recipient with keys of a type."""
    settings = {"KEY_TYPE": key_type, "MAX_MESSAGE_SIZE": _MAX_BYTES, "OUTPUT_FORMAT": "json"}
    sender, recipient = (world.lab.published_device(label, ttl=_TTL_SECONDS, settings=settings) for label in "sr")
    return sender, recipient


def print_one(sender: Device, recipient: Device, receiver: RunningReceiver) -> None:
    """Let the receiver print one message; it has processed all earlier ones then, and the sender's key is cached."""
    text = f"message number {next(_NUMBERS)} besides the bursts"
    result = sender.send(recipient, text)
    assert result.status == 0, result
    receiver.wait_until(lambda: text in receiver.last_lines(), "message besides the bursts")


@contextlib.contextmanager
def sealed(sender: Device, recipient: Device, number: int, *options: str) -> Iterator[Program]:
    """Seal a burst, and yield the process that publishes it once it reads a line; wait for its end."""
    with sender.start(BURST, recipient.name, str(number), *options) as burst:
        burst.wait_for_message("sealed", PATIENCE_SECONDS)
        yield burst
        assert burst.wait_for_end(PATIENCE_SECONDS) == 0, burst.stderr


def rate(receiver: RunningReceiver, first: int, number: int) -> float:
    """Wait until a burst is printed and return the messages a second, from its first line to its last.

    Args:
        receiver: Runs.
        first: How many lines it had printed before.
        number: How many messages the burst has.
    """
    receiver.wait_for_lines(first + 1)
    begun, started = receiver.lines(), time.perf_counter()
    receiver.wait_for_lines(first + number)
    seconds = time.perf_counter() - started
    assert receiver.different_lines(first) == number, "a message was printed twice"
    return (first + number - begun) / seconds


def _measure(
    world: BenchmarkEnvironment, title: str, load: Load, limits: tuple[float, float], prefix: tuple[str, ...]
) -> Measurement:
    sender, recipient = pair(world, load.key_type)
    rates, operations = [], []
    with RunningReceiver(recipient, prefix) as receiver:
        print_one(sender, recipient, receiver)
        for _ in range(RUNS):
            operations.append(rsa_operations())
            with sealed(sender, recipient, load.number, "--length", str(load.length)) as burst:
                first = receiver.lines()
                if prefix:
                    receiver.stop_processing()
                    burst.write("\n")
                    burst.wait_for_end(PATIENCE_SECONDS)
                    receiver.go_on()
                else:
                    burst.write("\n")
                rates.append(rate(receiver, first, load.number))
    target = Target(title, "messages/s", _PEER, Better.HIGHER, *limits)
    return Measurement(target, Sample(tuple(rates)), Sample(tuple(operations)))


def _measure_junk(world: BenchmarkEnvironment) -> Measurement:
    number = 3000
    sender, recipient = pair(world, "rsa2048")
    _, other = pair(world, "rsa2048")
    junk: list[float] = []
    good: list[float] = []
    with RunningReceiver(recipient) as receiver:
        print_one(sender, recipient, receiver)
        for _ in range(RUNS):
            for costs, options in ((junk, ("--to", other.name)), (good, ())):
                costs.append(_microseconds(receiver, sender, recipient, number, options))
    return Measurement(_JUNK, Sample(tuple(junk)), Sample(tuple(good)))


def _microseconds(
    receiver: RunningReceiver, sender: Device, recipient: Device, number: int, options: tuple[str, ...]
) -> float:
    with sealed(sender, recipient, number, *options) as burst:
        before = receiver.processor_seconds()
        burst.write("\n")
    print_one(sender, recipient, receiver)
    return 1e6 * (receiver.processor_seconds() - before) / number


def _words(load: Load) -> str:
    length = f"{load.length} bytes" if load.length < 1000 else f"{load.length // 1000} kB"
    return f"receiver, {'RSA-2048' if load.key_type == 'rsa2048' else 'P-256'}, {length}"


if __name__ == "__main__":
    sys.exit(run(measure))
