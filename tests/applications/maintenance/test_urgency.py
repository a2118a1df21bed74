import logging

import pytest

from idlib.errors import CredentialError, IdlibError, KeyFileError, PublishingError
from messaging_maintenance.urgency import DueError, Urgency, is_to_be_logged, urgency_of

HOUR = 3600
DAY = 24 * HOUR
OUTAGE = PublishingError("no name server answers", "check the network")
VANISHED = KeyFileError("a record is not in DNS", "publish it")
DUE = DueError("the key is due to be changed", "ask the CA")


@pytest.mark.parametrize(
    ("error", "lasted", "left", "expected"),
    [
        (OUTAGE, 0, None, Urgency.LATER),
        (OUTAGE, DAY, None, Urgency.LATER),
        (OUTAGE, DAY + 1, None, Urgency.SOON),
        (OUTAGE, 0, 7 * DAY, Urgency.SOON),
        (OUTAGE, 0, DAY, Urgency.NOW),
        (OUTAGE, 3 * DAY + 1, None, Urgency.NOW),
        (VANISHED, 0, None, Urgency.SOON),
        (VANISHED, 3 * DAY, None, Urgency.SOON),
        (VANISHED, 3 * DAY + 1, 300 * DAY, Urgency.NOW),
        (CredentialError("the token is rejected", "create another"), 0, None, Urgency.SOON),
        (DUE, 20 * DAY, 8 * DAY, Urgency.LATER),
        (DUE, 20 * DAY, 7 * DAY, Urgency.SOON),
        (DUE, 20 * DAY, DAY, Urgency.NOW),
        (DUE, 20 * DAY, -DAY, Urgency.NOW),
    ],
)
def test_a_problem_becomes_more_urgent_as_it_lasts_and_as_time_runs_out(
    error: IdlibError, lasted: float, left: float | None, expected: Urgency
) -> None:
    assert urgency_of(error, lasted, left) is expected
    assert urgency_of(error, lasted / 1000, None if left is None else left / 1000, 1000) is expected


def test_it_is_logged_more_often_and_as_an_error_in_the_end() -> None:
    assert [urgency.log_level for urgency in Urgency] == [logging.WARNING, logging.WARNING, logging.ERROR]
    assert [is_to_be_logged(urgency, 12 * HOUR) for urgency in Urgency] == [False, False, True]
    assert [is_to_be_logged(urgency, DAY) for urgency in Urgency] == [False, True, True]
    assert [is_to_be_logged(urgency, 7 * DAY) for urgency in Urgency] == [True, True, True]
    # A time in the future is that of a wrong clock.
    assert all(is_to_be_logged(urgency, -DAY) for urgency in Urgency)
