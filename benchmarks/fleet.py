"""A receiver with 10,000 senders: its rate beside that of one sender in the same run, and its memory.

The receiver is configured as for a fleet, with a file of all names. These share a key and a wildcard record, so that
only the receiver's own work differs.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.environment import BenchmarkEnvironment
from benchmarks.measurement import RUNS, Measurement, Sample
from benchmarks.receiver import pair, print_one, rate, sealed
from benchmarks.report import run
from benchmarks.running_receiver import PATIENCE_SECONDS, RunningReceiver
from benchmarks.target import Better, Target
from testbed.programs import Device

_RESOLVE: Final = Path(__file__).with_name("resolve.py")
_SENDERS: Final = 10_000
_OF_ONE_SENDER: Final = 4000
_TTL_SECONDS: Final = 3600
_RATE: Final = Target(
    "receiver, 10,000 senders with a message each, all known", "messages/s", "one sender", Better.HIGHER, 0.80, 0.95
)
_MEMORY: Final = Target("receiver's memory, one worker, 10,000 senders", "MiB", "", Better.LOWER, 70, 60)


def measure(world: BenchmarkEnvironment) -> Iterator[Measurement]:
    """Let all names send once, so that they are known, and measure them in turn with one sender."""
    sender, recipient = pair(world, "rsa2048")
    zone = f"fleet-{sender.name}"
    world.lab.knot.add_tlsa(f"*.{zone}", sender.tlsa_record(), _TTL_SECONDS)
    fleet = ("--senders", str(_SENDERS), "--zone", zone)
    # In the resolver's cache, because only the steady state is measured, and its name server is 50 to 200 ms away.
    result = sender.run(_RESOLVE, str(_SENDERS), zone, timeout=PATIENCE_SECONDS)
    assert result.status == 0, result
    allowed = recipient.crypto_path.parent / "allowed"
    names = [sender.name, *(f"sensor-{number}.{zone}" for number in range(_SENDERS))]
    allowed.write_text("".join(f"{name}\n" for name in names))
    recipient = recipient.with_settings(RECEIVER_WORKERS="1", ALLOWED_SENDERS=f"@{allowed}")
    rates, of_one, memory = [], [], []
    with RunningReceiver(recipient) as receiver:
        print_one(sender, recipient, receiver)
        _burst(receiver, sender, recipient, _SENDERS, *fleet)
        for _ in range(RUNS):
            rates.append(_burst(receiver, sender, recipient, _SENDERS, *fleet))
            of_one.append(_burst(receiver, sender, recipient, _OF_ONE_SENDER))
            memory.append(receiver.memory())
    yield Measurement(_RATE, Sample(tuple(rates)), Sample(tuple(of_one)))
    yield Measurement(_MEMORY, Sample(tuple(memory)))


def _burst(receiver: RunningReceiver, sender: Device, recipient: Device, number: int, *options: str) -> float:
    with sealed(sender, recipient, number, *options) as burst:
        first = receiver.lines()
        burst.write("\n")
        return rate(receiver, first, number)


if __name__ == "__main__":
    sys.exit(run(measure))
