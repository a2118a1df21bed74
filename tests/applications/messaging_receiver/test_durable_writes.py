"""Operations on the store are retried while its disk fails."""

import threading

import pytest

from idlib.errors import StoreError
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
    assert writes.failure is None


def test_a_stopping_receiver_logs_no_disk_error_for_the_store_that_it_has_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(StoreError, match="the disk is full"):
        DurableWrites(stopping, lambda: None).retry(fail)
    assert caplog.messages == []
