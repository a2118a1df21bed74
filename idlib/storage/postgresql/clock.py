"""The database's clock, and what the programs that use it have found out about it together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from idlib.errors import ClockError
from idlib.output import rfc3339
from idlib.storage.postgresql.connection import PostgresDatabase, Statements
from idlib.system.clock import boot_time
from idlib.system.times import EARLIEST_CREDIBLE_TIME

_PART: Final = "clock"
_VERSION: Final = 1
_SCHEMA: Final = """\
CREATE TABLE IF NOT EXISTS shared_clock (
    is_only boolean PRIMARY KEY CHECK (is_only),
    shown double precision NOT NULL,
    lead double precision NOT NULL,
    since double precision NOT NULL,
    skipped double precision NOT NULL
)
"""
# The time of the database as far as it is trusted, for statements after `prepare`.
TRUSTED_TIME: Final = (
    "(extract(epoch FROM clock_timestamp()) - coalesce((SELECT lead FROM shared_clock), 0))::double precision"
)


@dataclass(frozen=True, slots=True)
class ClockNote:
    """What the programs know about the database's clock.

    Args:
        shown: What it showed when this was noted, in seconds since the epoch.
        lead: By how many seconds it was ahead of the trusted time after a jump; 0 if it is trusted.
        since: When the jump was noticed, in seconds of the trusted time without those that were skipped.
        skipped: By how many seconds the trusted time has jumped so far, because a jump of the clock was accepted.
    """

    shown: float
    lead: float
    since: float
    skipped: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the database's clock.

    Args:
        shown: What it shows, in seconds since the epoch.
        up: What the boot clock showed at the same moment, in seconds.
        seconds: How long the answer took.
        note: What was noted last; None if nothing was.
    """

    shown: float
    up: float
    seconds: float
    note: ClockNote | None


class DatabaseClock:
    """The database's clock, and the note about it. Any number of threads may use it.

    Every method except `up` may raise `StoreError`.

    Args:
        database: The database.
        boot_clock: Returns seconds since the system was started, including those in which it was suspended.
    """

    def __init__(self, database: PostgresDatabase, boot_clock: Callable[[], float] = boot_time) -> None:
        self._database = database
        self.up = boot_clock
        prepare(database)

    def read(self) -> Reading:
        """Return what the clock shows, and what is noted about it.

        Raises:
            ClockError: It shows a time before this software was made.
        """
        with self._database.separately() as statements:
            asked_at = self.up()
            row = statements.execute(
                "SELECT extract(epoch FROM clock_timestamp())::float8, shown, lead, since, skipped"
                " FROM (SELECT) AS one_row LEFT JOIN shared_clock ON true"
            ).fetchone()
            answered_at = self.up()
        assert row is not None  # noqa: S101  # a left join has one
        shown, *noted = row
        if shown < EARLIEST_CREDIBLE_TIME:
            raise ClockError(
                f"the clock of the database {self._database.place} shows {rfc3339(int(shown))}, before this software"
                " was released",
                "set the clock of the database server",
            )
        note = None if noted[0] is None else ClockNote(*noted)
        return Reading(shown, (asked_at + answered_at) / 2, answered_at - asked_at, note)

    def note(self, note: ClockNote) -> None:
        """Note what is known about the clock, unless another program has accepted a jump meanwhile.

        Args:
            note: With as many skipped seconds as in the last reading.
        """
        with self._database.separately() as statements:
            _write(statements, note, note.skipped)

    def accept(self, note: ClockNote, skipped: float) -> None:
        """Note that a jump is accepted, unless another program has done so; queued messages become no older by it.

        Args:
            note: What is known from now on.
            skipped: The skipped seconds in the last reading.
        """
        with self._database.transaction() as statements:
            if not _write(statements, note, skipped):
                return
            row = statements.execute("SELECT to_regclass('outgoing') IS NOT NULL").fetchone()
            if row is not None and row[0]:
                statements.execute(
                    "UPDATE outgoing SET queued_at = queued_at + ?::bigint", (round(note.skipped - skipped),)
                )


def prepare(database: PostgresDatabase) -> None:
    """Create the table for the note, unless it exists.

    Args:
        database: The database.

    Raises:
        StoreError: The database cannot be used.
    """
    database.prepare(_PART, _VERSION, _SCHEMA)


def _write(statements: Statements, note: ClockNote, skipped: float) -> bool:
    cursor = statements.execute(
        "INSERT INTO shared_clock VALUES (true, ?, ?, ?, ?) ON CONFLICT (is_only) DO UPDATE SET shown = EXCLUDED.shown,"
        " lead = EXCLUDED.lead, since = EXCLUDED.since, skipped = EXCLUDED.skipped WHERE shared_clock.skipped = ?",
        (note.shown, note.lead, note.since, note.skipped, skipped),
    )
    return cursor.rowcount == 1
