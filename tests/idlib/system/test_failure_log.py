"""An outage causes few log lines, and its cause can be queried."""

import logging
from dataclasses import dataclass, field

import pytest

from idlib.system.failure_log import STABLE_SECONDS, FailureLog


@dataclass
class Clock:
    now: float = 1000.0
    outage: FailureLog = field(init=False)

    def __post_init__(self) -> None:
        self.outage = FailureLog(logging.getLogger("outage"), lambda: self.now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_cause_is_logged_once_and_again_after_an_hour(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        clock.outage.begin("refused")
        clock.now += 60
    assert caplog.messages == ["refused", "refused"]
    assert clock.outage.cause == "refused"


def test_causes_that_take_turns_are_logged_once_each(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        clock.outage.begin("refused")
        clock.outage.begin("unreachable")
    assert caplog.messages == ["refused", "unreachable"]


def test_a_cause_is_not_logged_again_after_a_brief_recovery(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.outage.begin("lost")
    assert clock.outage.end()
    assert clock.outage.cause is None
    clock.now += STABLE_SECONDS - 1
    assert not clock.outage.is_stable
    clock.outage.begin("lost")
    assert caplog.messages == ["lost"]


def test_a_failure_after_a_stable_period_is_logged_again(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.outage.begin("lost")
    clock.outage.end()
    clock.now += STABLE_SECONDS
    assert clock.outage.is_stable
    clock.outage.begin("lost")
    assert caplog.messages == ["lost", "lost"]


def test_the_end_is_only_reported_after_an_outage(clock: Clock) -> None:
    assert not clock.outage.end()


def test_the_pauses_between_the_log_lines_can_grow(caplog: pytest.LogCaptureFixture) -> None:
    seconds = 0.0
    outage = FailureLog(logging.getLogger("outage"), lambda: seconds, (60, 540, 3600))
    logged_at = []
    for _ in range(3 * 360):
        outage.begin("refused")
        if caplog.messages:
            logged_at.append(seconds)
        caplog.clear()
        seconds += 10
    assert logged_at == [0, 60, 600, 4200, 7800]


def test_a_different_detail_is_not_a_new_cause(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for minutes in (59, 58):
        clock.outage.begin("denied", f", for another {minutes} min")
    assert caplog.messages == ["denied, for another 59 min"]
    assert clock.outage.cause == "denied"
