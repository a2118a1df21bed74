"""Operations on the store are retried while its disk fails."""

import logging
import threading

import pytest

from idlib.errors import DatabaseError, StoreError
from messaging_receiver.durable_writes import DurableWrites


def fail() -> None:
    raise StoreError("the disk is full")


def test_an_operation_is_retried_and_the_outage_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("messaging_receiver.durable_writes.STORE_RETRY_SECONDS", 0.01)
    attempts: list[int] = []

    def succeed_late() -> int:
        attempts.append(1)
        if len(attempts) < 4:
            fail()
        return len(attempts)

    writes = DurableWrites(threading.Event(), lambda: None)
    assert writes.retry(succeed_late) == 4
    assert caplog.messages == ["Messages wait for the disk: the disk is full"]
    assert writes.problem is None


def test_an_outage_of_the_database_is_one_line_whatever_its_errors_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("messaging_receiver.durable_writes.STORE_RETRY_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    errors = ["it is shut down", "no one listens", "it is starting"]
    problems: list[str | None] = []
    writes = DurableWrites(threading.Event(), lambda: problems.append(writes.problem))

    def succeed_late() -> None:
        if errors:
            raise DatabaseError(errors.pop(0))

    writes.retry(succeed_late)
    assert caplog.messages == [
        "Messages wait for the database: it is shut down",
        "The database can be used again",
    ]
    assert problems == ["database: it is shut down", "database: no one listens", "database: it is starting"]
    assert writes.problem is None


def test_an_outage_that_several_threads_notice_one_after_another_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    writes = DurableWrites(threading.Event(), lambda: None)
    for error in ("it is shut down", "the connection is lost", "the connection is lost"):
        writes.note_failure(DatabaseError(error))
        writes.note_database()
    assert caplog.messages == [
        "Messages wait for the database: it is shut down",
        "The database can be used again",
    ]


def test_a_stopping_receiver_logs_no_disk_error_for_the_store_that_it_has_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(StoreError, match="the disk is full"):
        DurableWrites(stopping, lambda: None).retry(fail)
    assert caplog.messages == []
