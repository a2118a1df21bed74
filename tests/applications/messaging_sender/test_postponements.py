"""The reason why messages wait is logged once, for any number of retries and recipients."""

import logging

import pytest

from idlib.errors import NoSubscriberError, TemporaryDiscoveryError
from idlib.system.failure_log import STABLE_SECONDS
from messaging_sender.postponements import MAX_RECIPIENTS, Postponements

ABSENT = NoSubscriberError("the broker has no subscriber")
SILENT = TemporaryDiscoveryError("the DNS server did not answer in time")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def postponements(clock: Clock) -> Postponements:
    return Postponements(logging.getLogger("postponements"), clock)


def test_a_reason_is_logged_once_and_again_after_an_hour(
    postponements: Postponements, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(24):
        postponements.begin("bob.example", ABSENT)
        clock.now += 300
    assert caplog.messages == 2 * ["Messages to bob.example wait: the broker has no subscriber"]


def test_another_reason_or_another_recipient_is_logged(
    postponements: Postponements, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        postponements.begin("bob.example", ABSENT)
        postponements.begin("bob.example", SILENT)
        postponements.begin("carol.example", ABSENT)
    assert caplog.messages == [
        "Messages to bob.example wait: the broker has no subscriber",
        "Messages to bob.example wait: the DNS server did not answer in time",
        "Messages to carol.example wait: the broker has no subscriber",
    ]


def test_a_new_outage_is_logged_again(
    postponements: Postponements, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    postponements.begin("bob.example", ABSENT)
    postponements.end("bob.example")
    postponements.begin("bob.example", ABSENT)
    assert len(caplog.messages) == 1
    postponements.end("bob.example")
    clock.now += STABLE_SECONDS
    postponements.begin("bob.example", ABSENT)
    assert len(caplog.messages) == 2


def test_the_log_and_the_memory_are_limited_for_any_number_of_recipients(
    postponements: Postponements, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        for number in range(2 * MAX_RECIPIENTS):
            postponements.begin(f"{number}.example", ABSENT)
        clock.now += 300
    assert len(caplog.messages) == MAX_RECIPIENTS + 1
    assert caplog.messages[-1] == (
        f"Messages to other recipients wait, including {MAX_RECIPIENTS}.example: the broker has no subscriber"
    )
    assert len(postponements) == MAX_RECIPIENTS


def test_a_recipient_without_queued_messages_makes_room(
    postponements: Postponements, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MAX_RECIPIENTS):
        postponements.begin(f"{number}.example", ABSENT)
    postponements.keep(["0.example"])
    assert len(postponements) == 1
    for number in range(MAX_RECIPIENTS - 2):
        postponements.begin(f"new-{number}.example", ABSENT)
    postponements.end("new-0.example")
    caplog.clear()
    postponements.begin("bob.example", ABSENT)
    postponements.begin("carol.example", ABSENT)
    assert caplog.messages == [
        "Messages to bob.example wait: the broker has no subscriber",
        "Messages to carol.example wait: the broker has no subscriber",
    ]
