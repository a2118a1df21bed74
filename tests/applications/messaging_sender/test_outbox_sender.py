"""When the resident sender accepts a verdict of DNS about a recipient, and what it notes about a message."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from idlib.errors import EpochKeyUnavailableError, NotForwardSecretError, StoreError
from idlib.storage.outbox import Outbox
from idlib.system.failure_log import FailureLog
from idlib.transport import Publisher
from messaging_sender.mark_memory import MarkMemory
from messaging_sender.outbox_sender import MAX_VERDICT_SECONDS, OutboxSender, Verdicts
from messaging_sender.sealed import KeyLog
from messaging_sender.sealing import Sealer
from messaging_sender.sender_clock import SenderClock
from tests.applications.messaging_sender.marked import BOB as RECIPIENT
from tests.applications.messaging_sender.marked import (
    DAY,
    KEY,
    MARKED,
    UNMARKED,
    Dns,
    discovery_of,
    message,
    record,
    settings_of,
    txt,
)

BOB = "bob.example"


def test_a_missing_certificate_is_final_after_a_day() -> None:
    now = [1000.0]
    verdicts = Verdicts(lambda: now[0])
    assert not verdicts.is_final(BOB)
    now[0] += MAX_VERDICT_SECONDS - 1
    assert not verdicts.is_final(BOB)
    now[0] += 1
    assert verdicts.is_final(BOB)
    assert not verdicts.is_final("carol.example")


def test_the_day_starts_again_after_another_answer_of_dns() -> None:
    now = [1000.0]
    verdicts = Verdicts(lambda: now[0])
    assert not verdicts.is_final(BOB)
    now[0] += MAX_VERDICT_SECONDS
    verdicts.take_back(BOB)
    assert not verdicts.is_final(BOB)


@dataclass
class Broker:
    """A broker that acknowledges everything; notes what the outbox on the disk says when a message is published."""

    directory: Path
    published: list[bytes] = field(default_factory=list)
    noted: list[bool] = field(default_factory=list)

    def publish(self, recipient: str, payload: bytes, _expiry: int) -> None:
        with Outbox(self.directory) as outbox:
            message = outbox.next_to(recipient, 0)
        assert message is not None
        self.noted.append(message.was_sealed_to_epoch)
        self.published.append(payload)

    def wait(self, _publication: None) -> None:
        return


class Resident:
    """A resident sender with one message in its outbox."""

    def __init__(self, directory: Path, dns: Dns) -> None:
        self.settings = settings_of(directory, DATA_PATH=str(directory))
        self.outbox = Outbox(directory)
        self.broker = Broker(directory)
        self.seconds = 0.0
        clock = SenderClock(directory)
        clock.keep()
        self.sender = OutboxSender(
            self.settings, self.outbox, threading.Event(), FailureLog(logging.getLogger()), clock, KeyLog()
        )
        self.sender._verdicts = Verdicts(lambda: self.seconds)
        self.dns = dns

    def deliver(self, memory: MarkMemory | None = None) -> None:
        message = self.outbox.next_to(str(RECIPIENT), 0)
        assert message is not None
        # Without the answers that are cached.
        sealer = Sealer(self.settings, KEY, discovery_of(self.dns), memory)
        self.sender._deliver(message, sealer, cast("Publisher", self.broker))


@pytest.fixture
def dns() -> Dns:
    return Dns([MARKED], [txt(record())])


@pytest.fixture
def resident(tmp_path: Path, dns: Dns) -> Iterator[Resident]:
    resident = Resident(tmp_path, dns)
    yield resident
    resident.outbox.close()


def test_an_epoch_key_is_noted_on_the_disk_before_the_message_is_published(resident: Resident) -> None:
    resident.outbox.put(message())
    resident.deliver()
    assert resident.broker.noted == [True]
    assert resident.outbox.recipients() == ()


def test_an_identity_key_is_not_noted(resident: Resident, dns: Dns) -> None:
    dns.tlsa = [UNMARKED]
    resident.outbox.put(message())
    resident.deliver()
    assert resident.broker.noted == [False]


def test_nothing_is_published_if_the_epoch_key_cannot_be_noted(
    resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_number: int) -> None:
        raise StoreError("the disk is full")

    resident.outbox.put(message())
    monkeypatch.setattr(resident.outbox, "note_sealed_to_epoch", fail)
    with pytest.raises(StoreError):
        resident.deliver()
    assert resident.broker.published == []


@pytest.fixture
def demanding(tmp_path: Path, dns: Dns) -> Iterator[Resident]:
    """Yield a sender that requires epoch keys of a recipient that has none."""
    dns.tlsa = [UNMARKED]
    resident = Resident(tmp_path, dns)
    resident.settings = settings_of(tmp_path, DATA_PATH=str(tmp_path), REQUIRE_FORWARD_SECRECY="all")
    yield resident
    resident.outbox.close()


def test_a_message_that_requires_forward_secrecy_is_dropped_after_a_day(
    demanding: Resident, caplog: pytest.LogCaptureFixture
) -> None:
    demanding.outbox.put(message())
    with pytest.raises(NotForwardSecretError) as caught:
        demanding.deliver()
    demanding.seconds += MAX_VERDICT_SECONDS - 1
    with pytest.raises(NotForwardSecretError):
        demanding.deliver()
    assert demanding.outbox.waiting().number == 1
    demanding.seconds += 1
    demanding.deliver()
    assert demanding.outbox.waiting().number == 0
    assert demanding.broker.published == []
    assert f"to {RECIPIENT} was dropped: {caught.value}" in caplog.text


def test_the_day_begins_again_if_the_recipient_was_marked_meanwhile(demanding: Resident, dns: Dns) -> None:
    demanding.outbox.put(message())
    with pytest.raises(NotForwardSecretError):
        demanding.deliver()
    demanding.seconds += MAX_VERDICT_SECONDS
    dns.tlsa, dns.texts = [MARKED], []
    with pytest.raises(EpochKeyUnavailableError):
        demanding.deliver()
    dns.tlsa = [UNMARKED]
    with pytest.raises(NotForwardSecretError):
        demanding.deliver()
    assert demanding.outbox.waiting().number == 1


@pytest.mark.parametrize("cause", ["encrypted before", "marked before"])
def test_a_replayed_answer_without_the_mark_delays_a_message_until_it_expires(
    cause: str, resident: Resident, dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    if cause == "marked before":
        resident.sender._memory.note(RECIPIENT, int(time.time()))
    resident.outbox.put(message(7 * DAY, was_sealed_to_epoch=cause == "encrypted before"))
    dns.tlsa = [UNMARKED]
    for _ in range(6):
        with pytest.raises(EpochKeyUnavailableError):
            resident.deliver(resident.sender._memory)
        resident.seconds += MAX_VERDICT_SECONDS
    assert resident.outbox.waiting().number == 1
    now = int(time.time())
    resident.sender._drop_expired(now + 6 * DAY)
    assert resident.outbox.waiting().number == 1
    resident.sender._drop_expired(now + 7 * DAY)
    assert resident.outbox.waiting().number == 0
    assert resident.broker.published == []
    assert f"to {RECIPIENT} was dropped: it has expired" in caplog.text


def test_such_a_message_is_sent_once_the_mark_is_back(resident: Resident, dns: Dns) -> None:
    resident.outbox.put(message(was_sealed_to_epoch=True))
    dns.tlsa = [UNMARKED]
    with pytest.raises(EpochKeyUnavailableError):
        resident.deliver()
    resident.seconds += 2 * MAX_VERDICT_SECONDS
    dns.tlsa = [MARKED]
    resident.deliver()
    assert resident.broker.noted == [True]
    assert resident.outbox.waiting().number == 0
