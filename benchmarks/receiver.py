"""Messages a second that the receiver prints, through Mosquitto, from the first of a burst to the last.

A receiver is halted while the broker takes the burst, so that sealing and publishing cost it no processor time. It has
printed one message before, so that the steady state is measured: ours has the sender's certificate in its cache then.
"""

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.comparison import RUNS, Better, Comparison, Sample
from benchmarks.environment import BenchmarkEnvironment
from benchmarks.table import show
from testbed.programs import Device, Program

_BURST: Final = Path(__file__).with_name("burst.py")
_REFERENCE_RECEIVER: Final = Path(__file__).parents[1] / "testbed/reference_receiver.py"
_MESSAGES: Final = 2000
_REFERENCE_MESSAGES: Final = 30
_PATIENCE_SECONDS: Final = 120.0
_TTL_SECONDS: Final = 3600


def compare(world: BenchmarkEnvironment) -> Comparison:
    """Measure our receiver and the one on the reference libraries in turn."""
    sender = world.lab.published_device("sender", ttl=_TTL_SECONDS)
    recipient = world.lab.published_device("recipient", ttl=_TTL_SECONDS)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(recipient.receiver())
        _warm_up(sender, recipient, ours)
        rates: list[float] = []
        reference_rates: list[float] = []
        if not world.obstacle:
            other = world.lab.published_device("other", ttl=_TTL_SECONDS)
            reference = stack.enter_context(other.start(_REFERENCE_RECEIVER))
            reference.wait_for_message("subscribed")
            _warm_up(sender, other, reference)
        for _ in range(RUNS):
            rates.append(_rate(sender, recipient, ours, _MESSAGES))
            if not world.obstacle:
                reference_rates.append(_rate(sender, other, reference, _REFERENCE_MESSAGES))
    return Comparison(
        "messages a second received",
        Better.HIGHER,
        Sample(tuple(rates)),
        Sample(tuple(reference_rates)) if reference_rates else None,
    )


def _warm_up(sender: Device, recipient: Device, receiver: Program) -> None:
    result = sender.send(recipient, "warm up")
    assert result.status == 0, result
    receiver.wait_for_message("warm up")


def _rate(sender: Device, recipient: Device, receiver: Program, number: int) -> float:
    before = len(receiver.stdout)
    receiver.signal(signal.SIGSTOP)
    result = sender.run(_BURST, recipient.name, str(number))
    assert result.status == 0, result
    receiver.signal(signal.SIGCONT)
    receiver.wait_for("first message", lambda: len(receiver.stdout) > before, _PATIENCE_SECONDS)
    first, started = len(receiver.stdout), time.perf_counter()
    receiver.wait_for("last message", lambda: len(receiver.stdout) >= before + number, _PATIENCE_SECONDS)
    seconds = time.perf_counter() - started
    assert len(set(receiver.stdout[before:])) == number, "a message was printed twice"
    return (before + number - first) / seconds


if __name__ == "__main__":
    sys.exit(show(compare))
