"""What tells the time: this device's clock (`idlib.timekeeping`), or that of a database (`idlib.database_time`)."""

from typing import Protocol

from idlib.trust import Moment


class TimeSource(Protocol):
    """Knows the time, and how far it can be trusted. Any number of threads may use it."""

    def moment(self) -> Moment:
        """Return the time, and how far it can be trusted."""

    def trusted_time(self) -> float | None:
        """Return seconds since the epoch, or None if no data may be deleted by them."""

    def credible_time(self) -> int:
        """Return seconds since the epoch, or the last ones that were trusted."""

    def elapsed(self) -> float:
        """Return seconds that never jump, and continue after a restart of the program or of the system."""

    def record(self) -> Moment | None:
        """Record the time if it is due, and return it; None if nothing may expire by it.

        Raises:
            StoreError: The time cannot be recorded.
        """

    def trust(self) -> None:
        """Trust the clock by the operator's command.

        Raises:
            StoreError: What is known about the clock cannot be written.
        """

    def finish(self) -> None:
        """Write what is known about the clock, before the program ends.

        Raises:
            StoreError: It cannot be written.
        """
