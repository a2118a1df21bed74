"""The time for several programs of a name: it comes from the database, so that all of them have the same.

An operator, a time server or a failover may set the database's clock to a wrong time while they run. It is trusted as
long as it agrees with the boot clock of the machines. If it moves by more than 5 minutes against that, it has jumped:
the time then continues as before, by the boot clock, and nothing expires or is destroyed by it. The jump is noted in
the database, so that a program that is started later knows of it, too. The clock is trusted again:

- at once if it returns to where it was;
- at once if it shows the same time as the clock of a machine that has itself not jumped: it was wrong before;
- after 24 hours without another jump.

A time in which no program ran is measured by the clock alone. After more than 5 minutes of that, a clock that shows the
same time as that of the machine is trusted; otherwise it may be up to 14 days ahead, and not behind.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from idlib.errors import ClockError
from idlib.output import rfc3339
from idlib.storage.postgresql.clock import ClockNote, DatabaseClock, Reading
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import MAX_DIVERGENCE_SECONDS, SETTLING_SECONDS
from idlib.trust import MAX_MESSAGE_AGE_SECONDS, Moment

_LOG: Final = logging.getLogger(__name__)

# An answer that takes longer says less about the time than the one before.
_MAX_ANSWER_SECONDS: Final = 1.0
_JUMP: Final = "The database's clock has jumped, and the time continues as before"
_CONSEQUENCE: Final = (
    "; nothing expires, and no epoch key is created or destroyed by the clock, until it is right or has not jumped for"
    " 24 hours; set the clock of the database server"
)


@dataclass(frozen=True, slots=True)
class _View:
    """The trusted time, and how the database's clock differs from it.

    Args:
        offset: The trusted time minus the boot clock, in seconds.
        lead: As in `ClockNote`.
        since: As in `ClockNote`.
        skipped: As in `ClockNote`.
    """

    offset: float
    lead: float
    since: float
    skipped: float


class DatabaseTimekeeper:
    """A time source by the database's clock: `idlib.time_source.TimeSource`.

    Args:
        clock: The database's clock.
        wall_clock: Returns what this machine's clock shows, in seconds since the epoch.

    Raises:
        ClockError: The database's clock shows a time before this software was made.
        StoreError: The database cannot be used.
    """

    def __init__(self, clock: DatabaseClock, wall_clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._difference = FailureLog(_LOG)
        self._fault = FailureLog(_LOG)
        self._jump = FailureLog(_LOG)
        # This machine's clock minus the boot clock when the database's clock was last trusted.
        self._wall_offset: float | None = None
        reading = clock.read()
        self._view = self._use(reading, self._first_view(reading))
        self._compare()

    def moment(self) -> Moment:
        """Return the time, which is certain unless the database's clock has jumped."""
        return Moment(self._now(), is_certain=not self._view.lead)

    def trusted_time(self) -> float | None:
        """Return seconds since the epoch, or None after a jump."""
        return None if self._view.lead else self._now()

    def credible_time(self) -> int:
        """Return seconds since the epoch."""
        return int(self._now())

    def elapsed(self) -> float:
        """Return seconds that do not jump: unlike the running time of a machine, all programs have the same."""
        view = self._view
        return self._clock.up() + view.offset - view.skipped

    def record(self) -> Moment | None:
        """Return the time, or None after a jump; `refresh` has recorded it."""
        moment = self.moment()
        return moment if moment.is_certain else None

    def trust(self) -> None:
        """Reject the operator's command: it is about this machine's clock."""
        _LOG.warning("--trust-clock ignored: with STORE, times come from the database's clock")

    def finish(self) -> None:
        """Do nothing: everything is recorded."""

    def refresh(self) -> None:
        """Look at the database's clock again, and warn if it has jumped, or if this machine's clock differs.

        Raises:
            StoreError: The database cannot be used; the time continues.
        """
        try:
            reading = self._clock.read()
        except ClockError as error:
            self._fault.begin(f"The time continues from before: {error}")
        else:
            if self._fault.end():
                _log_trust(reading)
            if reading.seconds <= _MAX_ANSWER_SECONDS:
                self._view = self._use(reading, self._next_view(reading))
        self._compare()

    def _now(self) -> float:
        return self._clock.up() + self._view.offset

    def _first_view(self, reading: Reading) -> _View:
        """Return the view of a program that has just been started."""
        note = reading.note
        if note is None:
            return _View(reading.shown - reading.up, 0.0, reading.shown, 0.0)
        if _is_fresh(reading, note):
            return _view_by(note, reading)
        recorded = note.shown - note.lead
        possible = [
            lead
            for lead in (note.lead, 0.0)
            if -MAX_DIVERGENCE_SECONDS <= reading.shown - lead - recorded <= MAX_MESSAGE_AGE_SECONDS
        ]
        # Less is lost by a doubt too many, in which messages wait.
        lead = possible[0] if possible else reading.shown - recorded
        view = _with_lead(reading, lead, note.skipped)
        return _accepted(view) if lead and self._agrees_with(reading) else view

    def _next_view(self, reading: Reading) -> _View:
        view, note = self._view, reading.note
        if note is not None and _is_fresh(reading, note):
            # Perhaps noted by another program, which has not been suspended meanwhile.
            view = _view_by(note, reading)
        else:
            if note is not None:
                # Another program may have accepted a jump while the database was away for this one.
                view = replace(view, offset=view.offset + note.skipped - view.skipped, skipped=note.skipped)
            lead = reading.shown - reading.up - view.offset
            if abs(lead) <= MAX_DIVERGENCE_SECONDS:
                view = _with_lead(reading, 0.0, view.skipped)
            elif abs(lead - view.lead) > MAX_DIVERGENCE_SECONDS or not view.lead:
                view = _with_lead(reading, lead, view.skipped)
        if view.lead and (self._has_settled(reading, view) or self._was_corrected(reading)):
            return _accepted(view)
        return view

    def _use(self, reading: Reading, view: _View) -> _View:
        """Note what is known now, and log when it changes."""
        noted = 0.0 if reading.note is None else reading.note.skipped
        note = ClockNote(reading.shown, view.lead, view.since, view.skipped)
        if view.skipped == noted:
            self._clock.note(note)
        else:
            self._clock.accept(note, noted)
        if view.lead:
            shown, expected = (rfc3339(int(seconds)) for seconds in (reading.shown, reading.up + view.offset))
            self._jump.begin(_JUMP, f": it shows {shown} in place of {expected}{_CONSEQUENCE}")
        else:
            self._wall_offset = self._wall_clock() - reading.up
            if self._jump.end():
                _log_trust(reading)
        return view

    def _has_settled(self, reading: Reading, view: _View) -> bool:
        return reading.up + view.offset - view.skipped - view.since >= SETTLING_SECONDS

    def _was_corrected(self, reading: Reading) -> bool:
        """Return whether this machine's clock, which has not jumped, confirms what the database's shows now."""
        before = self._wall_offset
        has_jumped = before is None or abs(self._wall_clock() - reading.up - before) > MAX_DIVERGENCE_SECONDS
        return not has_jumped and self._agrees_with(reading)

    def _agrees_with(self, reading: Reading) -> bool:
        return abs(self._wall_clock() - reading.shown) <= MAX_DIVERGENCE_SECONDS

    def _compare(self) -> None:
        theirs, ours = self._now(), self._wall_clock()
        if abs(theirs - ours) <= MAX_DIVERGENCE_SECONDS:
            self._difference.end()
            return
        self._difference.begin(
            "This machine's clock differs by more than 5 minutes from the database's, which is used",
            f": it shows {rfc3339(int(ours))}, the database's {rfc3339(int(theirs))}; set the one that is wrong",
        )


def _log_trust(reading: Reading) -> None:
    _LOG.info("%s", f"The database's clock is trusted again: it shows {rfc3339(int(reading.shown))}")


def _is_fresh(reading: Reading, note: ClockNote) -> bool:
    """Return whether a program has looked at the clock a moment ago, and it has not jumped since."""
    return 0.0 <= reading.shown - note.shown <= MAX_DIVERGENCE_SECONDS


def _view_by(note: ClockNote, reading: Reading) -> _View:
    return _View(reading.shown - note.lead - reading.up, note.lead, note.since, note.skipped)


def _with_lead(reading: Reading, lead: float, skipped: float) -> _View:
    """Return a view in which the clock has begun to differ just now."""
    time_now = reading.shown - lead
    return _View(time_now - reading.up, lead, time_now - skipped, skipped)


def _accepted(view: _View) -> _View:
    return replace(view, offset=view.offset + view.lead, lead=0.0, skipped=view.skipped + view.lead)
