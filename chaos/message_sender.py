"""A device that runs send_message.py once for each message, and kills some of these runs."""

import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from chaos.kinds import Kind
from chaos.reports import Promise, name_of_end, promised_lines
from idlib.errors import ExitStatus
from testbed.programs import Device, Program

# The broker has the message even if no receipt came in time.
_PROMISING: Final = frozenset({ExitStatus.OK, ExitStatus.RECEIPT})
_KILLED_SHARE: Final = 0.15
# About as long as a run takes.
_LATEST_KILL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of send_message.py.

    Args:
        text: The message.
        program: The run.
        kill_at: When to kill it unless it has ended, on the monotonic clock; None if it is not killed.
    """

    text: str
    program: Program
    kill_at: float | None


class MessageSender:
    """A sender with a program for each message, several at once if they take long.

    Args:
        kind: How it sends.
        device: The sender.
        recipient: The recipient.
        label: The beginning of its messages.
        generator: Decides when it starts, and what is killed when.
    """

    def __init__(self, kind: Kind, device: Device, recipient: Device, label: str, generator: random.Random) -> None:
        self.promises: list[Promise] = []
        self.events: Counter[str] = Counter()
        self._kind = kind
        self._device = device
        self._recipient = recipient
        self._label = label
        self._generator = generator
        self._next_at = time.monotonic() + generator.uniform(0, kind.seconds_a_message)
        self._number = 0
        self._runs: list[_Run] = []

    def step(self, now: float) -> None:
        """Start a message, kill the runs that are due, and read the results of those that have ended.

        Args:
            now: On the monotonic clock.
        """
        if now >= self._next_at:
            self._next_at = now + self._kind.seconds_a_message
            self._runs.append(self._begin(now))
        for run in tuple(self._runs):
            if run.kill_at is not None and now >= run.kill_at and run.program.is_running:
                run.program.kill()
            if not run.program.is_running:
                self._end(run)

    def kill(self) -> None:
        """Kill whatever runs."""
        for run in self._runs:
            if run.program.is_running:
                run.program.kill()

    def finish(self) -> None:
        """Wait until all runs have ended by themselves."""
        for run in tuple(self._runs):
            self._end(run)

    def _begin(self, now: float) -> _Run:
        self._number += 1
        text = f"{self._label}.{self._number}"
        is_doomed = self._generator.random() < _KILLED_SHARE
        delay = self._generator.uniform(0, _LATEST_KILL_SECONDS)
        program = self._kind.start(self._device, self._recipient, text)
        return _Run(text, program, now + delay if is_doomed else None)

    def _end(self, run: _Run) -> None:
        status = run.program.wait_for_end()
        self.events[name_of_end(self._kind.name, status)] += 1
        if status in _PROMISING:
            self.promises += promised_lines(self._kind.name, [run.text], run.program.stdout)
        run.program.close()
        self._runs.remove(run)
