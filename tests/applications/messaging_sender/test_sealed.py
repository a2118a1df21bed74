"""What is known about a sealed message, what is logged about it, and what is reported as JSON."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from idlib.epochs.record import PublishedEpoch
from idlib.epochs.selection import ChosenEpoch, Shortening
from messaging_sender.reporting import SendResult, report
from messaging_sender.sealed import MAX_LOGGED_KEYS, KeyLog, Sealed
from tests.applications.messaging_sender.marked import BOB, DAY, message, record

RECORD = record()
KEY_ID = RECORD.key_id(BOB)
UNTIL = f"{datetime.fromtimestamp(RECORD.until, UTC):%Y-%m-%dT%H:%M:%SZ}"


def to_epoch(shortening: Shortening = Shortening.NONE) -> Sealed:
    return Sealed(b"payload", DAY, ChosenEpoch(PublishedEpoch(RECORD, KEY_ID), DAY, shortening))


@pytest.mark.parametrize(
    ("shortening", "level", "until", "reason"),
    [
        (Shortening.NONE, logging.INFO, "until", ""),
        (Shortening.USUAL, logging.INFO, "until", f": {Shortening.USUAL.value}"),
        (Shortening.UNUSUAL, logging.WARNING, "only until", f": {Shortening.UNUSUAL.value}"),
    ],
)
def test_the_key_is_logged_once(
    shortening: Shortening, level: int, until: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = KeyLog()
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            log.tell(str(BOB), to_epoch(shortening))
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (level, f"Messages to {BOB} are encrypted to its epoch key {KEY_ID} and can be read {until} {UNTIL}{reason}")
    ]


def test_a_changed_shortening_is_logged_and_an_identity_key_is_not(caplog: pytest.LogCaptureFixture) -> None:
    log = KeyLog()
    with caplog.at_level(logging.DEBUG):
        log.tell(str(BOB), Sealed(b"payload", DAY))
        log.tell(str(BOB), to_epoch())
        log.tell(str(BOB), to_epoch(Shortening.UNUSUAL))
    assert [one.levelno for one in caplog.records] == [logging.INFO, logging.WARNING]


def test_each_key_of_each_recipient_is_logged_once_however_they_alternate(caplog: pytest.LogCaptureFixture) -> None:
    log, other = KeyLog(), replace(RECORD, until=RECORD.until + DAY)
    keys = [(one.key_id(BOB), one) for one in (RECORD, other)]
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            for recipient in (str(BOB), "carol.example"):
                for key_id, one in keys:
                    chosen = ChosenEpoch(PublishedEpoch(one, key_id), DAY, Shortening.NONE)
                    log.tell(recipient, Sealed(b"payload", DAY, chosen))
    assert [record.getMessage().split(" and ")[0] for record in caplog.records] == [
        f"Messages to {recipient} are encrypted to its epoch key {key_id}"
        for recipient in (str(BOB), "carol.example")
        for key_id, _ in keys
    ]


def test_a_bounded_number_of_keys_is_remembered() -> None:
    log = KeyLog()
    for number in range(MAX_LOGGED_KEYS + 10):
        log.tell(f"device-{number}.example", to_epoch())
    assert len(log) == MAX_LOGGED_KEYS


@pytest.mark.parametrize(
    ("sealed", "result", "kind", "until", "size"),
    [
        (to_epoch(), SendResult.ACKNOWLEDGED, "epoch", UNTIL, 7),
        (Sealed(b"payload", DAY), SendResult.ACKNOWLEDGED, "identity", None, 7),
        (None, SendResult.FAILED, None, None, None),
        # It is sealed again later.
        (to_epoch(), SendResult.QUEUED, None, None, 7),
    ],
    # A time in a name would differ between the processes that run the tests.
    ids=["to an epoch key", "to an identity key", "failed", "queued"],
)
def test_json_names_the_kind_of_key(
    sealed: Sealed | None, result: SendResult, kind: str | None, until: str | None, size: int | None
) -> None:
    told = json.loads(report(message(), result, sealed=sealed))
    assert (told["sealed"], told["readable_until"], told["size"]) == (kind, until, size)


@pytest.mark.parametrize("seconds", [0, -1, DAY + 1])
def test_the_broker_keeps_no_message_for_longer_than_its_key_lives(seconds: int) -> None:
    with pytest.raises(ValueError, match="the broker would"):
        Sealed(b"payload", seconds, ChosenEpoch(PublishedEpoch(RECORD, KEY_ID), DAY, Shortening.NONE))
