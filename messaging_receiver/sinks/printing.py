"""Prints each message as a line on stdout."""

from idlib.settings import OutputFormat
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.lines import line_of
from messaging_receiver.standard_output import StandardOutput


class Printing:
    """A sink that prints each message as a line.

    Args:
        stdout: Prints the lines.
        output_format: OUTPUT_FORMAT.
    """

    def __init__(self, stdout: StandardOutput, output_format: OutputFormat) -> None:
        self._stdout = stdout
        self._format = output_format

    @property
    def problem(self) -> str | None:
        """Whether stdout is not being read."""
        return self._stdout.problem

    def check(self) -> None:
        """Check that stdout can be written.

        Raises:
            OutputError: Its reader has closed it.
        """
        self._stdout.check()

    def deliver(self, message: ReceivedMessage) -> Fate:
        """Print a message; it counts as delivered once it is written, whether it is read or not.

        Args:
            message: The message.

        Raises:
            OutputError: Stdout cannot be written.
        """
        line = line_of(message, self._format)
        return Fate.DELIVERED if self._stdout.write(f"{line}\n".encode()) else Fate.KEPT
