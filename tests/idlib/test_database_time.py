"""The time by a database's clock; the database is played by a double."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from idlib.database_time import DatabaseTimekeeper
from idlib.errors import ClockError
from idlib.storage.postgresql.clock import DatabaseClock
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.trust import Moment

NOON = datetime(2027, 3, 4, 12, tzinfo=UTC).timestamp()


class _Database(PostgresDatabase):
    """Shows a time that a test sets; each answer takes some seconds of the boot clock."""

    place = "db.example/messages"

    def __init__(self, time: float = NOON) -> None:
        self.time = time
        self.up = 500.0
        self.answer_seconds = 0.0

    def boot_clock(self) -> float:
        return self.up

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        self.up += seconds

    @contextlib.contextmanager
    def separately(self) -> Iterator["_Database"]:  # type: ignore[override]
        yield self

    def execute(self, _statement: str) -> "_Database":
        self.pass_time(self.answer_seconds / 2)
        self.shown = self.time
        self.pass_time(self.answer_seconds / 2)
        return self

    def fetchone(self) -> tuple[float]:
        return (self.shown,)


@pytest.fixture
def database() -> _Database:
    return _Database()


def _timekeeper(database: _Database, difference: float = 0.0) -> DatabaseTimekeeper:
    return DatabaseTimekeeper(DatabaseClock(database, database.boot_clock), lambda: database.time + difference)


def test_the_database_clock_is_trusted(database: _Database) -> None:
    timekeeper = _timekeeper(database)
    database.pass_time(60)
    assert timekeeper.moment() == Moment(NOON + 60)
    assert timekeeper.record() == Moment(NOON + 60)
    assert timekeeper.trusted_time() == timekeeper.elapsed() == timekeeper.credible_time() == NOON + 60


def test_the_time_for_the_answer_is_taken_into_account(database: _Database) -> None:
    database.answer_seconds = 6.0
    assert _timekeeper(database).trusted_time() == database.time


def test_the_time_follows_the_database(database: _Database) -> None:
    timekeeper = _timekeeper(database)
    database.time += 2
    timekeeper.refresh()
    assert timekeeper.trusted_time() == NOON + 2


def test_a_slow_answer_changes_nothing(database: _Database) -> None:
    timekeeper = _timekeeper(database)
    database.answer_seconds = 4.0
    database.time += 100
    timekeeper.refresh()
    assert timekeeper.trusted_time() == NOON + 4


def test_a_database_clock_that_is_not_set_is_refused() -> None:
    with pytest.raises(ClockError) as raised:
        DatabaseClock(_Database(86400.0))
    assert str(raised.value) == (
        "the clock of the database db.example/messages shows 1970-01-02T00:00:00Z, before this software was released;"
        " set the clock of the database server"
    )


def test_the_time_continues_if_the_database_clock_is_set_back_to_before_this_software(
    database: _Database, caplog: pytest.LogCaptureFixture
) -> None:
    timekeeper = _timekeeper(database)
    database.time = 86400.0
    timekeeper.refresh()
    assert timekeeper.trusted_time() == NOON
    assert caplog.messages[0].startswith("The time continues from before: the clock of the database")


@pytest.mark.parametrize("difference", [-301.0, 301.0])
def test_a_difference_to_this_machine_is_reported_once(
    difference: float, database: _Database, caplog: pytest.LogCaptureFixture
) -> None:
    timekeeper = _timekeeper(database, difference)
    timekeeper.refresh()
    (line,) = caplog.messages
    assert line.startswith("This machine's clock differs by more than 5 minutes from the database's, which is used: ")


def test_a_small_difference_to_this_machine_is_not_reported(
    database: _Database, caplog: pytest.LogCaptureFixture
) -> None:
    _timekeeper(database, 299.0).refresh()
    assert caplog.messages == []


def test_the_command_to_trust_this_machine_is_ignored(database: _Database, caplog: pytest.LogCaptureFixture) -> None:
    timekeeper = _timekeeper(database)
    timekeeper.trust()
    timekeeper.finish()
    assert caplog.messages == ["--trust-clock ignored: with STORE, times come from the database's clock"]
