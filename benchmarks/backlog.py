"""Memory of a receiver that fetches a burst of queued messages, and if it prints them all.

Usage: python -m benchmarks.backlog --messages 100000
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import describe
from lab.interruption import raise_when_signalled
from testbed.lab import Lab, open_lab
from testbed.programs import Program

_BURST: Final = Path(__file__).with_name("burst.py")
_WARM_UP: Final = 1000
_MESSAGES_A_SECOND_AT_LEAST: Final = 20
_TTL_SECONDS: Final = 3600
# Most of this is what the queues may hold, and the broker's window.
ALLOWED_GROWTH_KIB: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class Backlog:
    """How a receiver has processed a burst.

    Args:
        printed: Lines.
        different: Lines that are different from each other.
        seconds: From the start to the last line.
        memory: Resident after a short burst, in KiB.
        peak: Peak resident memory, in KiB.
    """

    printed: int
    different: int
    seconds: float
    memory: int
    peak: int


def work_off(lab: Lab, number: int) -> Backlog:
    """Let a burst wait at the broker while the receiver is away, and measure how it processes that.

    Args:
        lab: The daemons.
        number: How many messages.
    """
    sender, recipient = (lab.published_device(label, ttl=_TTL_SECONDS) for label in ("sender", "recipient"))
    patience = 60 + number / _MESSAGES_A_SECOND_AT_LEAST

    def burst(messages: int) -> None:
        result = sender.run(_BURST, recipient.name, str(messages), timeout=patience)
        assert result.status == 0, result

    with recipient.receiver() as receiver:
        assert receiver.stop() == 0
    burst(_WARM_UP + number)
    started = time.perf_counter()
    with recipient.receiver() as receiver:
        receiver.wait_for("first messages", lambda: len(receiver.stdout) >= _WARM_UP, patience)
        memory = _memory(receiver, "VmRSS")
        receiver.wait_for("all messages", lambda: len(receiver.stdout) >= _WARM_UP + number, patience)
        seconds, peak = time.perf_counter() - started, _memory(receiver, "VmHWM")
        assert receiver.stop() == 0
        return Backlog(len(receiver.stdout) - _WARM_UP, len(set(receiver.stdout)) - _WARM_UP, seconds, memory, peak)


def _memory(receiver: Program, name: str) -> int:
    status = Path(f"/proc/{receiver.process_id}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


def main() -> int:
    """Measure and print; return the exit status."""
    command_line = argparse.ArgumentParser(prog="python -m benchmarks.backlog")
    command_line.add_argument("--messages", type=int, default=100_000)
    number = command_line.parse_args().messages
    raise_when_signalled()
    with tempfile.TemporaryDirectory(prefix="backlog-") as directory, open_lab(Path(directory)) as lab:
        found = work_off(lab, number)
    print(describe(), "", sep="\n")
    print(f"{number} messages queued at the broker; {found.printed} lines printed, {found.different} different ones")
    print(f"{found.seconds:.1f} s; memory {found.memory} KiB after {_WARM_UP} messages, {found.peak} KiB at most")
    is_good = found.printed == found.different == number and found.peak - found.memory <= ALLOWED_GROWTH_KIB
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
