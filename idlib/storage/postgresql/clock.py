"""The database's clock, by which all receivers of a name tell the time."""

from collections.abc import Callable
from typing import Final

from idlib.errors import ClockError
from idlib.output import rfc3339
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.system.clock import boot_time
from idlib.system.times import EARLIEST_CREDIBLE_TIME

# An answer that takes longer says less about the time than the measurement before.
_MAX_ANSWER_SECONDS: Final = 1.0


class DatabaseClock:
    """The database's clock as it was measured last, continued by the boot clock. Any number of threads may use it.

    Args:
        database: The database.
        boot_clock: Returns seconds since the system was started, including those in which it was suspended.

    Raises:
        ClockError: The database's clock shows a time before this software was made.
        StoreError: The database cannot be used.
    """

    def __init__(self, database: PostgresDatabase, boot_clock: Callable[[], float] = boot_time) -> None:
        self._database = database
        self._boot_clock = boot_clock
        self._offset, _ = self._measure()

    def now(self) -> float:
        """Return what the database's clock shows, in seconds since the epoch."""
        return self._boot_clock() + self._offset

    def refresh(self) -> None:
        """Measure the database's clock again, because clocks drift.

        Raises:
            ClockError: The database's clock shows a time before this software was made; what was measured before is
                still used.
            StoreError: The database cannot be used.
        """
        offset, seconds = self._measure()
        if seconds <= _MAX_ANSWER_SECONDS:
            self._offset = offset

    def _measure(self) -> tuple[float, float]:
        """Return how far the database's clock is ahead of the boot clock, and how long the answer took."""
        with self._database.separately() as statements:
            asked_at = self._boot_clock()
            row = statements.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            answered_at = self._boot_clock()
        shown = 0.0 if row is None else float(row[0])
        if shown < EARLIEST_CREDIBLE_TIME:
            raise ClockError(
                f"the clock of the database {self._database.place} shows {rfc3339(int(shown))}, before this software"
                " was released",
                "set the clock of the database server",
            )
        return shown - (asked_at + answered_at) / 2, answered_at - asked_at
