"""The ways in which the devices that `make chaos` runs send."""

from dataclasses import dataclass
from typing import Final

from testbed.programs import SEND_MESSAGE, Device, Program


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to run send_message.py.

    Args:
        options: Its options.
        devices: How many devices send in this way.
        seconds_a_message: How often each sends.
        timeout: For how many seconds it waits for the broker.
    """

    options: tuple[str, ...]
    devices: int
    seconds_a_message: float
    timeout: int

    @property
    def name(self) -> str:
        """The options in one word or more."""
        return " ".join(self.options)

    @property
    def has_outbox(self) -> bool:
        """Whether messages can be left to a resident sender."""
        return "--queue" in self.options

    @property
    def sends_lines(self) -> bool:
        """Whether one run sends many messages."""
        return "--lines" in self.options

    def start(self, device: Device, recipient: Device, *words: str) -> Program:
        """Run send_message.py.

        Args:
            device: The sender.
            recipient: The recipient.
            words: The message, if a run sends one.
        """
        options = (*self.options, "--json", "--timeout", str(self.timeout))
        return device.start(SEND_MESSAGE, recipient.name, *words, *options)


# Of one name at most 16 messages wait for DNS: each device is slow enough for the longest outage. The timeouts are
# shorter than some outages, so that programs give up, and longer than others.
KINDS: Final = (
    Kind(("--lines",), devices=8, seconds_a_message=2.0, timeout=3),
    Kind(("--lines", "--queue"), devices=3, seconds_a_message=2.0, timeout=2),
    Kind(("--queue",), devices=3, seconds_a_message=3.0, timeout=2),
    Kind(("--receipt",), devices=2, seconds_a_message=6.0, timeout=4),
)
