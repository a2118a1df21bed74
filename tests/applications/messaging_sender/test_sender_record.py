"""What a sender learns about its own record, and how long it waits for the look-up."""

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.errors import DiscoveryError, NoRecordError, NotSecureError, TemporaryDiscoveryError
from idlib.keys import generate_private_key
from idlib.settings import KeyType, Settings, load
from idlib.system.failure_log import FailureLog
from messaging_sender.sender_record import LOOK_AGAIN_SECONDS, PATIENCE_SECONDS, OwnRecord

ENVIRONMENT = {"IDENTITY_NAME": "alice.example.com"}
KEY = generate_private_key(KeyType.P256)


class Answers:
    """DNS with one answer about our own name.

    Args:
        error: The answer to each look-up.
    """

    def __init__(self, error: DiscoveryError) -> None:
        self.error = error
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        self.asked.append(str(wanted.name))
        assert self.may_answer.wait(20)
        raise self.error


def own_record(answers: Answers, settings: Settings | None = None, clock: Iterator[float] | None = None) -> OwnRecord:
    now = clock or iter(time.monotonic, None)
    return OwnRecord(
        settings or load(ENVIRONMENT),
        # Nothing is cached, so each look-up sends a query.
        Discovery(answers, clock=iter(range(0, 10**9, 10**6)).__next__),
        FailureLog(logging.getLogger("test")),
        clock=lambda: next(now),
    )


def test_a_missing_record_is_logged() -> None:
    record = own_record(Answers(NoRecordError("alice.example.com does not exist in DNS")))
    record.look(KEY)
    assert record.tell() == (
        "Recipients will refuse what this device sends: alice.example.com does not exist in DNS;"
        " publish the record that dane-messenger identity tlsa prints"
    )


def test_nothing_is_logged_before_a_look_up() -> None:
    assert own_record(Answers(NoRecordError("absent"))).tell() is None


def test_the_sender_waits_for_a_look_up_only_once_and_briefly() -> None:
    answers = Answers(NoRecordError("absent"))
    answers.may_answer.clear()
    record = own_record(answers)
    record.look(KEY)
    began = time.monotonic()
    assert record.tell() is None
    assert PATIENCE_SECONDS <= time.monotonic() - began < PATIENCE_SECONDS + 5
    began = time.monotonic()
    for _ in range(20):
        assert record.tell() is None
        assert record.is_pending
    assert time.monotonic() - began < PATIENCE_SECONDS
    answers.may_answer.set()
    while not (warning := record.tell()):
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    assert "absent" in warning


def test_the_warning_stays_during_a_dns_outage(caplog: pytest.LogCaptureFixture) -> None:
    answers = Answers(NoRecordError("absent"))
    record = own_record(answers, clock=iter(range(0, 10**6, 100)))
    record.look(KEY)
    warning = record.tell()
    answers.error = TemporaryDiscoveryError("no answer")
    record.look(KEY)
    while len(answers.asked) < 3:
        time.sleep(0.01)
    time.sleep(0.1)
    assert warning is not None
    assert record.tell() == warning
    assert caplog.text.count("Recipients will refuse") == 1


def test_the_record_is_looked_up_at_most_once_a_minute() -> None:
    answers = Answers(TemporaryDiscoveryError("no answer"))
    now = [0.0]
    record = own_record(answers, clock=iter(lambda: now[0], None))
    for moment, asked in ((0.0, 1), (LOOK_AGAIN_SECONDS - 1, 1), (LOOK_AGAIN_SECONDS, 2)):
        now[0] = moment
        record.look(KEY)
        record.tell()
        time.sleep(0.1)
        record.tell()
        assert len(answers.asked) == asked


def test_a_zone_that_is_not_pinned_here_may_be_pinned_elsewhere() -> None:
    error = NotSecureError("alice.example.com is in none of the zones whose keys are pinned")
    settings = load(ENVIRONMENT)
    for anchors, is_told in ((None, True), (settings.data_path, False)):
        record = own_record(Answers(error), dataclasses.replace(settings, dnssec_trust_anchors=anchors))
        record.look(KEY)
        assert (record.tell() is not None) == is_told
