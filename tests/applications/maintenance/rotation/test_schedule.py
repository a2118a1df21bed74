import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ClockError
from idlib.system import clock
from idlib.trust import EARLIEST_CREDIBLE_TIME
from messaging_maintenance.rotation.schedule import Instant, RunningTime, Waits

HOUR = 3600
DAY = 24 * HOUR
START = Instant(2_000_000_000, "one", 500)


@pytest.mark.parametrize(
    ("later", "seconds"),
    [
        (Instant(START.wall + 60, "one", 560), 60),
        # Set forward, and set back.
        (Instant(START.wall + DAY, "one", 560), 60),
        (Instant(START.wall - DAY, "one", 560), 60),
        # Another start: only the wall clock is left, and the time without power counts.
        (Instant(START.wall + DAY, "two", 5), DAY),
        (Instant(START.wall + 60, "two", 5000), 60),
        # A clock that has not been set since the start of the system may show any time.
        (Instant(START.wall + DAY, "two", 5, is_set=False), 5),
        (Instant(START.wall + DAY, "one", 560, is_set=False), 60),
        # The same identifier, but a clock that began anew, as in a container.
        (Instant(START.wall + DAY, "one", 5), DAY),
        # A system that does not say which start it is.
        (Instant(START.wall + DAY, "", 560), DAY),
    ],
)
def test_the_time_that_has_passed_at_least(later: Instant, seconds: float) -> None:
    assert later.seconds_since(START) == seconds


def test_without_an_identifier_of_the_start_only_the_wall_clock_counts() -> None:
    assert Instant(100, "", 70).seconds_since(Instant(50, "", 60)) == 50


def test_a_clock_that_was_not_set_at_the_beginning_measures_only_this_start_of_the_system() -> None:
    began = Instant(START.wall - 90 * DAY, "one", 60, is_set=False)
    later = Instant(START.wall, "two", 600)
    assert later.seconds_since(began) == 600
    assert later.recount(began) == Instant(START.wall - 600, "two", 0)


@pytest.mark.parametrize(
    ("now", "counted_from"),
    [
        (Instant(START.wall - DAY, "one", 560), Instant(START.wall - DAY - 60, "one", 500)),
        (Instant(START.wall - DAY, "two", 560), Instant(START.wall - DAY, "two", 560)),
        (Instant(START.wall + DAY, "two", 560), START),
        (Instant(START.wall - DAY, "one", 560, is_set=False), START),
        (Instant(START.wall - DAY, "two", 560, is_set=False), START),
    ],
)
def test_an_instant_is_counted_again_by_a_clock_that_was_set(now: Instant, counted_from: Instant) -> None:
    assert now.recount(START) == counted_from


@pytest.mark.parametrize(("is_synchronized", "up", "is_set"), [(True, 5, True), (False, 5, False), (False, DAY, True)])
def test_a_clock_counts_as_set_once_it_is_synchronized_or_the_system_has_run_for_a_day(
    is_synchronized: bool,  # noqa: FBT001
    up: float,
    is_set: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clock, "is_synchronized", lambda: is_synchronized)
    monkeypatch.setattr(time, "clock_gettime", lambda _: float(up))
    assert Instant.now().is_set == is_set


@given(forward=st.floats(0, 10**9), passed=st.floats(0, 10**7))
def test_a_clock_that_is_set_forward_shortens_no_waiting_time(forward: float, passed: float) -> None:
    later = Instant(START.wall + passed + forward, START.boot, START.up + passed)
    assert later.seconds_since(START) <= passed + 1e-3


def test_now_is_the_present_by_both_clocks() -> None:
    now = Instant.now()
    assert abs(now.wall - time.time()) < 5
    assert abs(now.up - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert now.boot == clock.boot()


def test_a_clock_that_is_not_set_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: EARLIEST_CREDIBLE_TIME - 1.0)
    with pytest.raises(ClockError, match=r"not set; wait for its time server, or set it"):
        Instant.now()


def test_the_waiting_times_are_those_of_the_protocol() -> None:
    waits = Waits()
    assert waits.until_switch(300) == HOUR
    assert waits.until_switch(2 * HOUR) == 2 * HOUR + 300
    assert waits.until_known(60) == 360
    assert waits.until_withdrawal() == 14 * DAY + 300
    assert waits.until_destruction(300) == 300 + 300 + 7 * DAY + 2 * HOUR


def test_a_ttl_is_waited_for_at_any_speed() -> None:
    waits = Waits(1_000_000)
    for wait in (waits.until_switch, waits.until_known, waits.until_destruction):
        assert 7 <= wait(7) < 8
    assert waits.until_withdrawal() < 2


MOMENTS = st.lists(
    st.tuples(
        st.floats(0, 100 * DAY),  # for how long the system runs
        st.one_of(st.none(), st.floats(0, 100 * DAY)),  # for how long it is then without power, if it is
        st.floats(-1000 * DAY, 1000 * DAY),  # how far its clock is set
        st.booleans(),  # whether the running time is noted
    ),
    max_size=20,
)


@given(MOMENTS)
def test_running_time_is_never_more_than_the_system_has_run(
    moments: list[tuple[float, float | None, float, bool]],
) -> None:
    running, up, wall, ran = RunningTime(0, START), START.up, START.wall, 0.0
    boots = ["one"]
    for runs, without_power, is_set_by, is_noted in moments:
        up, wall, ran = up + runs, wall + runs + is_set_by, ran + runs
        now = Instant(wall, boots[-1], up, is_set=False)
        assert running.at(now).seconds <= ran + 1e-3
        if is_noted:
            running = running.at(now)
        if without_power is not None:
            boots.append(f"start {len(boots)}")
            up, wall = 0.0, wall + without_power


def test_running_time_that_is_noted_is_not_lost_by_a_restart() -> None:
    noted = RunningTime(0, START).at(Instant(START.wall + HOUR, "one", START.up + HOUR))
    assert noted.seconds == HOUR
    assert noted.at(Instant(START.wall + 2 * HOUR, "two", 60)).seconds == HOUR + 60
    # Of a system that says nothing about its starts, nothing is certain.
    assert noted.at(Instant(START.wall + 2 * HOUR, "", 60)).seconds == HOUR


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_running_time_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="a running time of"):
        RunningTime(seconds, START)
