"""The receiver's runs, and what it printed in each."""

import re
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Final

from chaos.delivery_report import ReceiverRun, texts_of
from testbed.programs import RECEIVER, SUBSCRIBED, Device, Program

# A line can count others that were not logged.
_REFUSAL: Final = re.compile(r" refused reason=([a-z-]+) .*?(?: \(and (\d+) more in the last \d+ s\))?$")


def refusals_in(log: Sequence[str]) -> Counter[str]:
    """Return how many messages were refused, by reason.

    Args:
        log: The lines of a receiver's log.
    """
    refusals: Counter[str] = Counter()
    for line in log:
        if found := _REFUSAL.search(line):
            refusals[found[1]] += 1 + int(found[2] or 0)
    return refusals


class Receiver:
    """The recipient's receiver, ended and started again.

    Args:
        device: The recipient.
    """

    def __init__(self, device: Device) -> None:
        self.refusals: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self._device = device
        self._ended: list[ReceiverRun] = []
        self._program: Program | None = self._begin()
        self._program.wait_for_log(SUBSCRIBED)

    @property
    def runs(self) -> tuple[ReceiverRun, ...]:
        """What it has printed so far, in each run, including the present one."""
        if self._program is None:
            return tuple(self._ended)
        return (*self._ended, ReceiverRun(texts_of(list(self._program.stdout)), was_killed=False))

    def start(self) -> None:
        """Start the receiver, without waiting until it is subscribed."""
        self._program = self._begin()

    def end(self, ending: signal.Signals) -> None:
        """End the receiver with a signal."""
        program, self._program = self._program, None
        assert program is not None
        program.signal(ending)
        status = program.wait_for_end()
        if status > 0:
            self.events[f"receiver ended with {status}"] += 1
        self._ended.append(ReceiverRun(texts_of(program.stdout), was_killed=status == -signal.SIGKILL))
        self.refusals += refusals_in(program.stderr)
        program.close()

    def _begin(self) -> Program:
        return self._device.start(RECEIVER)

    def close(self) -> None:
        """End it, whatever its state."""
        if self._program is not None:
            self._program.close()
