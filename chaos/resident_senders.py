"""The resident senders, which deliver what send_message.py --queue has left in the outboxes."""

import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from chaos.reports import Promise, promised_lines
from testbed.programs import SENDER, Device, Program

_LAST: Final = "the last"
_NOTHING_WAITS: Final = "ok: waiting for commands\n"


class ResidentSenders:
    """One resident sender for each device, which can be ended and started again.

    Args:
        devices: Each has its own outbox.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self.events: Counter[str] = Counter()
        self._devices = tuple(devices)
        self._programs: list[Program] = []
        self.start()

    def start(self) -> None:
        """Start all; only after `end`."""
        self._programs = [device.start(SENDER) for device in self._devices]

    def end(self, ending: signal.Signals) -> None:
        """End all with a signal."""
        for program in self._programs:
            program.signal(ending)
        for program in self._programs:
            program.wait_for_end()
            for line in program.stderr:
                if " ERROR " in line:
                    self.events["error logged by a resident sender"] += 1
            program.close()
        self._programs = []

    def wait_until_nothing_waits(self, seconds: float) -> None:
        """Return when all outboxes are empty, or the time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(device.run(SENDER, "--health").stdout == _NOTHING_WAITS for device in self._devices):
                return

    def send_last(self, recipient: Device) -> frozenset[Promise]:
        """Send a message that reaches the broker after all others, and return the promises about it.

        A receiver that has printed it has received all others, and all their copies.

        Args:
            recipient: The recipient.
        """
        result = self._devices[0].send(recipient, _LAST, "--json")
        assert result.status == 0, result
        return frozenset(promised_lines("--json", [_LAST], result.stdout.splitlines()))

    def close(self) -> None:
        """End all, whatever their state."""
        self.end(signal.SIGTERM)
