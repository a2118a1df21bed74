"""The time by a database's clock; the database is played by a double."""

from datetime import UTC, datetime

import pytest

from idlib.database_time import DatabaseTimekeeper
from idlib.errors import ClockError
from idlib.storage.postgresql.clock import ClockNote, DatabaseClock, Reading
from idlib.trust import EARLIEST_CREDIBLE_TIME, Moment

NOON = datetime(2027, 3, 4, 12, tzinfo=UTC).timestamp()


class _Clock(DatabaseClock):
    """Shows a time that a test sets; each answer takes some seconds of the boot clock."""

    def __init__(self, time: float = NOON) -> None:
        self.time = time
        self.seconds = 500.0
        self.answer_seconds = 0.0
        self.noted: ClockNote | None = None
        self.up = lambda: self.seconds

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        self.seconds += seconds

    def read(self) -> Reading:
        if self.time < EARLIEST_CREDIBLE_TIME:
            raise ClockError("the clock of the database db.example/messages shows a wrong time")
        self.pass_time(self.answer_seconds / 2)
        reading = Reading(self.time, self.seconds, self.answer_seconds, self.noted)
        self.pass_time(self.answer_seconds / 2)
        return reading

    def note(self, note: ClockNote) -> None:
        if self.noted is None or self.noted.skipped == note.skipped:
            self.noted = note

    def accept(self, note: ClockNote, skipped: float) -> None:
        if self.noted is None or self.noted.skipped == skipped:
            self.noted = note


@pytest.fixture
def database() -> _Clock:
    return _Clock()


def _timekeeper(database: _Clock, difference: float = 0.0) -> DatabaseTimekeeper:
    return DatabaseTimekeeper(database, lambda: NOON + database.seconds - 500.0 + difference)


def test_the_database_clock_is_trusted(database: _Clock) -> None:
    timekeeper = _timekeeper(database)
    database.pass_time(60)
    assert timekeeper.moment() == Moment(NOON + 60)
    assert timekeeper.record() == Moment(NOON + 60)
    assert timekeeper.trusted_time() == timekeeper.elapsed() == timekeeper.credible_time() == NOON + 60


def test_the_time_for_the_answer_is_taken_into_account(database: _Clock) -> None:
    database.answer_seconds = 6.0
    assert _timekeeper(database).trusted_time() == database.time


def test_the_time_follows_the_database(database: _Clock) -> None:
    timekeeper = _timekeeper(database)
    database.time += 2
    timekeeper.refresh()
    assert timekeeper.trusted_time() == NOON + 2


def test_a_slow_answer_changes_nothing(database: _Clock) -> None:
    timekeeper = _timekeeper(database)
    database.answer_seconds = 4.0
    database.time += 100
    timekeeper.refresh()
    assert timekeeper.trusted_time() == NOON + 4


def test_a_database_clock_that_is_not_set_is_refused() -> None:
    with pytest.raises(ClockError):
        _timekeeper(_Clock(86400.0))


def test_the_time_continues_if_the_database_clock_is_set_back_to_before_this_software(
    database: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    timekeeper = _timekeeper(database)
    database.time = 86400.0
    timekeeper.refresh()
    assert timekeeper.trusted_time() == NOON
    assert caplog.messages[0].startswith("The time continues from before: the clock of the database")


@pytest.mark.parametrize("difference", [-301.0, 301.0])
def test_a_difference_to_this_machine_is_reported_once(
    difference: float, database: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    timekeeper = _timekeeper(database, difference)
    timekeeper.refresh()
    (line,) = caplog.messages
    assert line.startswith("This machine's clock differs by more than 5 minutes from the database's, which is used: ")


def test_a_small_difference_to_this_machine_is_not_reported(database: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    _timekeeper(database, 299.0).refresh()
    assert caplog.messages == []


def test_the_command_to_trust_this_machine_is_ignored(database: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    timekeeper = _timekeeper(database)
    timekeeper.trust()
    timekeeper.finish()
    assert caplog.messages == ["--trust-clock ignored: with STORE, times come from the database's clock"]


HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY
JUMPS = [sign * length for length in (HOUR, DAY, YEAR) for sign in (1, -1)]
LINE = "The database's clock has jumped, and the time continues as before: it shows "
AGAIN = "The database's clock is trusted again: it shows "


@pytest.fixture
def late() -> _Clock:
    """Return a clock that may be set back by a year."""
    return _Clock(NOON + 2 * YEAR)


def _look(database: _Clock, *timekeepers: DatabaseTimekeeper, seconds: float = 4.0) -> None:
    database.pass_time(seconds)
    for timekeeper in timekeepers:
        timekeeper.refresh()


def _jump(database: _Clock, seconds: float, *timekeepers: DatabaseTimekeeper) -> None:
    database.time += seconds
    _look(database, *timekeepers)


@pytest.mark.parametrize("jump", JUMPS)
def test_after_a_jump_the_time_continues_and_nothing_expires_by_it(
    jump: float, late: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    timekeeper = _timekeeper(late, 2 * YEAR)
    _jump(late, jump, timekeeper)
    _look(late, timekeeper)
    expected = NOON + 2 * YEAR + 8
    assert timekeeper.moment() == Moment(expected, is_certain=False)
    assert timekeeper.trusted_time() is None
    assert timekeeper.record() is None
    assert timekeeper.credible_time() == timekeeper.elapsed() == expected
    (line,) = caplog.messages
    assert line.startswith(LINE)
    caplog.set_level("INFO")
    _jump(late, -jump, timekeeper)
    assert timekeeper.trusted_time() == late.time
    assert caplog.messages[-1].startswith(AGAIN)
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("jump", JUMPS)
def test_a_program_that_is_started_after_a_jump_does_not_trust_the_clock_either(jump: float, late: _Clock) -> None:
    first = _timekeeper(late, 2 * YEAR)
    _jump(late, jump, first)
    for pause in (60.0, DAY):
        # The only one that knows of it, even if all were stopped for some time.
        late.pass_time(pause)
        second = _timekeeper(late, 2 * YEAR)
        assert second.trusted_time() is None
        assert second.elapsed() == late.time - jump


def test_an_endless_jump_is_accepted_after_a_day_without_another_one(database: _Clock) -> None:
    first, second = _timekeeper(database), _timekeeper(database)
    _jump(database, DAY, first, second)
    for _ in range(23):
        _look(database, first, second, seconds=HOUR / 12)
    _jump(database, HOUR, first, second)
    for minutes in range(0, 24 * 60, 5):
        assert first.trusted_time() is second.trusted_time() is None, minutes
        _look(database, first, second, seconds=300)
    assert first.trusted_time() == second.trusted_time() == database.time
    # What is measured by it does not seem to have taken longer.
    assert first.elapsed() == second.elapsed() == database.time - DAY - HOUR
    third = _timekeeper(database)
    assert third.trusted_time() == database.time
    assert third.elapsed() == first.elapsed()


def test_a_clock_that_was_wrong_is_trusted_at_once_if_it_is_set_to_the_time_of_a_machine_that_has_not_jumped(
    database: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    timekeeper = _timekeeper(database, DAY)
    caplog.clear()
    _jump(database, DAY, timekeeper)
    assert timekeeper.trusted_time() == database.time
    assert timekeeper.elapsed() == database.time - DAY
    assert caplog.messages == []


def test_a_jump_of_the_machines_clock_to_the_same_time_confirms_nothing(database: _Clock) -> None:
    difference = 0.0
    timekeeper = DatabaseTimekeeper(database, lambda: NOON + database.seconds - 500.0 + difference)
    difference = YEAR
    _jump(database, YEAR, timekeeper)
    assert timekeeper.trusted_time() is None


def test_a_machine_that_was_suspended_without_noticing_asks_the_others(database: _Clock) -> None:
    suspended, other = _timekeeper(database), _timekeeper(database)
    offset = other._view.offset
    # For the others, an hour has passed, in which they have looked every few seconds.
    suspended._view = _timekeeper(database)._view.__class__(offset - HOUR, 0.0, 0.0, 0.0)
    _look(database, other, suspended)
    assert suspended.trusted_time() == database.time


def test_after_a_pause_of_all_programs_the_clock_is_trusted_if_the_machines_agrees_with_it(database: _Clock) -> None:
    _timekeeper(database)
    database.pass_time(30 * DAY)
    assert _timekeeper(database).trusted_time() == database.time
    database.pass_time(30 * DAY)
    assert _timekeeper(database, DAY).trusted_time() is None


def test_a_clock_that_was_set_back_while_no_program_ran_is_not_trusted(database: _Clock) -> None:
    _timekeeper(database)
    database.pass_time(HOUR)
    database.time -= DAY
    assert _timekeeper(database).trusted_time() is None
