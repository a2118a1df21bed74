"""When the keys of a name are about to end."""

import pytest

from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, EpochRecords, PublishedEpoch, SkippedRecord
from messaging_maintenance.checks.epochs import judge_lives
from messaging_maintenance.checks.result import Status

NOW = 1_900_000_000
MINUTE, HOUR, DAY = 60, 3600, 86_400
PUBLIC = EpochPrivateKey(bytes(32)).public


def records(*lives: tuple[float, float]) -> EpochRecords:
    """Return records that live for a time, of which some is left."""
    usable = [
        PublishedEpoch(EpochRecord(int(NOW + left - life), int(NOW + left), PUBLIC), f"key {number}")
        for number, (life, left) in enumerate(lives)
    ]
    return EpochRecords(tuple(usable), ())


@pytest.mark.parametrize(
    ("life", "left", "status"),
    [
        (9 * DAY + HOUR, 8 * DAY, Status.OK),
        (9 * DAY + HOUR, 2 * DAY, Status.OK),
        (9 * DAY + HOUR, 2 * DAY - 1, Status.WARN),
        (9 * DAY + HOUR, DAY, Status.WARN),
        (9 * DAY + HOUR, DAY - 1, Status.FAIL),
        # Of keys for devices that are always on.
        (5 * HOUR, 3 * HOUR, Status.OK),
        (5 * HOUR, 75 * MINUTE, Status.OK),
        (5 * HOUR, 75 * MINUTE - 1, Status.WARN),
        (5 * HOUR, HOUR, Status.WARN),
        (5 * HOUR, HOUR - 1, Status.FAIL),
    ],
)
def test_the_end_of_the_last_key_is_announced(life: float, left: float, status: Status) -> None:
    assert judge_lives(records((life, left)), NOW).status is status


def test_the_key_that_lives_longest_counts() -> None:
    assert judge_lives(records((9 * DAY, HOUR), (9 * DAY, 5 * DAY)), NOW).status is Status.OK


def test_what_senders_cannot_use_is_a_failure_with_its_reason() -> None:
    skipped = EpochRecords((), (SkippedRecord("it is not signed by a key", is_signed_by_another=True),))
    item = judge_lives(skipped, NOW)
    assert (item.status, "it is not signed by a key" in item.evidence) == (Status.FAIL, True)
    future = EpochRecords((PublishedEpoch(EpochRecord(NOW + HOUR, NOW + DAY, PUBLIC), "key"),), ())
    assert "next epoch key starts" in judge_lives(future, NOW).evidence
