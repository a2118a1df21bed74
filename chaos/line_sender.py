"""A device that feeds `send_message.py --lines` through a pipe, and starts it again when it has ended."""

import contextlib
import random
import time
from collections import Counter
from typing import Final

from chaos.kinds import Kind
from chaos.reports import Promise, name_of_end, promised_lines
from testbed.programs import Device, Program

# A program that gave up is started again, but not so often that the machine does nothing else.
_RESTART_SECONDS: Final = 3.0


class LineSender:
    """A sender whose program sends many messages.

    Args:
        kind: How it sends.
        device: The sender.
        recipient: The recipient.
        label: The beginning of its messages.
        generator: Decides when it starts.
    """

    def __init__(self, kind: Kind, device: Device, recipient: Device, label: str, generator: random.Random) -> None:
        self.promises: list[Promise] = []
        self.events: Counter[str] = Counter()
        self._kind = kind
        self._device = device
        self._recipient = recipient
        self._label = label
        self._next_at = time.monotonic() + generator.uniform(0, kind.seconds_a_message)
        self._program: Program | None = None
        self._run_number = 0
        self._texts: list[str] = []

    def step(self, now: float) -> None:
        """Write a line, or start the program, if it is time to.

        Args:
            now: On the monotonic clock.
        """
        if self._program is not None and not self._program.is_running:
            self._end_run(self._program)
            self._next_at = now + _RESTART_SECONDS
        if now < self._next_at:
            return
        self._next_at = now + self._kind.seconds_a_message
        if self._program is None:
            self._run_number += 1
            self._program = self._kind.start(self._device, self._recipient)
        self._texts.append(f"{self._label}.{self._run_number}.{len(self._texts) + 1}")
        # It may have ended just now: then it is unknown if the line was sent.
        with contextlib.suppress(BrokenPipeError):
            self._program.write(f"{self._texts[-1]}\n")

    def kill(self) -> None:
        """Kill the program."""
        if self._program is not None and self._program.is_running:
            self._program.kill()

    def finish(self) -> None:
        """End the input, and wait until the program has ended by itself."""
        if self._program is not None:
            self._program.end_input()
            self._end_run(self._program)

    def _end_run(self, program: Program) -> None:
        self.events[name_of_end(self._kind.name, program.wait_for_end())] += 1
        self.promises += promised_lines(self._kind.name, self._texts, program.stdout)
        program.close()
        self._program = None
        self._texts = []
