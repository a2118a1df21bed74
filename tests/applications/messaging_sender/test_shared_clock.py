"""The clock of a resident sender with an outbox in a database, which is played by a double."""

import time
from collections.abc import Callable

import pytest

from idlib.errors import DatabaseError
from idlib.storage.postgresql.clock import ClockNote, DatabaseClock, Reading
from idlib.trust import EARLIEST_CREDIBLE_TIME, Moment
from messaging_sender import shared_clock
from messaging_sender.shared_clock import SharedClock

NOW = EARLIEST_CREDIBLE_TIME + 3600.0


class Local:
    """The clock of this device."""

    def __init__(self) -> None:
        self.may_seal = True
        self.kept = 0

    def keep(self) -> None:
        self.kept += 1

    def trusted_moment(self) -> Moment | None:
        return Moment(1.0)


class Theirs(DatabaseClock):
    """The database's clock."""

    def __init__(self) -> None:
        self.shown = NOW
        self.refreshed: Callable[[], None] = lambda: None
        self.up = lambda: 0.0

    def read(self) -> Reading:
        self.refreshed()
        return Reading(self.shown, 0.0, 0.0, None)

    def note(self, note: ClockNote) -> None:
        """Forget it."""


@pytest.fixture(autouse=True)
def _present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def test_nothing_expires_and_nothing_is_sealed_before_the_databases_clock_is_known() -> None:
    clock = SharedClock(Local())
    assert clock.trusted_moment() is None
    assert not clock.may_seal


def test_messages_expire_by_the_databases_clock() -> None:
    clock, theirs = SharedClock(Local()), Theirs()
    theirs.shown = NOW + 60
    clock.follow(theirs)
    assert clock.trusted_moment() == Moment(NOW + 60)


@pytest.mark.parametrize(
    ("difference", "is_trusted_here", "may_seal"),
    [(0, True, True), (300, True, True), (301, True, False), (-301, True, False), (0, False, False)],
)
def test_no_message_is_sealed_if_the_two_clocks_differ_or_this_devices_clock_is_not_trusted(
    difference: int, *, is_trusted_here: bool, may_seal: bool
) -> None:
    local, theirs = Local(), Theirs()
    local.may_seal = is_trusted_here
    theirs.shown = NOW + difference
    clock = SharedClock(local)
    clock.follow(theirs)
    assert clock.may_seal is may_seal


def test_nothing_expires_after_a_jump_of_the_databases_clock_and_messages_are_sealed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_clock, "_REFRESH_SECONDS", 0.0)
    clock, theirs = SharedClock(Local()), Theirs()
    clock.follow(theirs)
    theirs.shown += 365 * 24 * 3600
    clock.keep()
    assert clock.trusted_moment() is None
    assert clock.may_seal


def test_the_databases_clock_is_measured_again_and_a_database_that_is_away_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refresh() -> None:
        measured.append(theirs.shown)
        raise DatabaseError("away")

    monkeypatch.setattr(shared_clock, "_REFRESH_SECONDS", 0.0)
    measured: list[float] = []
    local, theirs = Local(), Theirs()
    clock = SharedClock(local)
    clock.keep()
    clock.follow(theirs)
    theirs.refreshed = refresh
    clock.keep()
    assert local.kept == 2
    assert measured == [NOW]
    assert clock.may_seal
