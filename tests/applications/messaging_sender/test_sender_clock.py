"""The resident sender drops and sends nothing while its clock may be wrong."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlib.settings import load
from idlib.storage.outbox import BootTime, NewOutgoingMessage, Outbox
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import leave_command
from idlib.trust import EARLIEST_CREDIBLE_TIME
from messaging_sender.outbox_sender import OutboxSender
from messaging_sender.sealed import KeyLog
from messaging_sender.sender_clock import COMMAND_FILE_NAME, SenderClock

NOW = EARLIEST_CREDIBLE_TIME + 3600.0
HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY
BOB = "bob.example"


@dataclass
class Device:
    """A sender with clocks that the test sets, and without a broker."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch
    wall: float = NOW
    up: float = 100.0
    boot: str = "first"
    is_synchronized: bool = True
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr("idlib.system.clock.boot", lambda: self.boot)
        self.monkeypatch.setattr("idlib.system.clock.is_synchronized", lambda: self.is_synchronized)
        self.monkeypatch.setattr("time.time", lambda: self.wall)
        self.monkeypatch.setattr("time.clock_gettime", lambda _: self.up)
        self.monkeypatch.setattr("messaging_sender.sender_clock._UPKEEP_SECONDS", 0.0)
        self.start()

    def start(self) -> None:
        settings = load({"IDENTITY_NAME": "alice.example", "DATA_PATH": str(self.directory)})
        self.clock = SenderClock(self.directory)
        self.clock.keep()
        self.outbox = Outbox(self.directory)
        self.sender = OutboxSender(
            settings, self.outbox, threading.Event(), FailureLog(logging.getLogger()), self.clock, KeyLog()
        )

    def stop(self) -> None:
        self.clock.finish()
        self.outbox.close()

    def run_for(self, seconds: float) -> bool:
        """Let time pass; return whether messages may be sent now."""
        is_ready = self.sender._is_ready()
        while seconds > 0:
            step = min(seconds, 600.0)
            self.wall, self.up, seconds = self.wall + step, self.up + step, seconds - step
            is_ready = self.sender._is_ready()
        return is_ready

    def queue(self, identifier: str, lifetime: int | None = None) -> None:
        self.outbox.put(NewOutgoingMessage(BOB, identifier, "text", int(self.wall), lifetime), BootTime.now())

    def waiting(self) -> list[str]:
        found, number = [], 0
        while (message := self.outbox.next_to(BOB, number)) is not None:
            found.append(message.identifier)
            number = message.number
        return found


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    device = Device(tmp_path, monkeypatch)
    yield device
    device.stop()


@pytest.mark.parametrize("jump", [20 * YEAR, 15 * DAY, -HOUR, -30 * DAY, 301.0])
def test_no_message_is_dropped_or_sent_after_a_jump_of_the_clock(
    device: Device, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    assert device.run_for(DAY)
    device.queue("for an hour", 3600)
    device.queue("for a week")
    device.wall += jump
    assert not device.run_for(600)
    device.queue("queued by the wrong clock")
    assert not device.run_for(600)
    assert "Messages wait: the clock may be wrong: it shows " in caplog.text
    device.wall -= jump
    assert device.run_for(600)
    assert device.waiting() == ["for an hour", "for a week", "queued by the wrong clock"]
    assert device.run_for(2 * HOUR)
    assert device.waiting() == ["for a week", "queued by the wrong clock"]


def test_a_doubtful_clock_is_still_doubtful_after_a_restart(device: Device) -> None:
    assert device.run_for(DAY)
    device.queue("for a week")
    device.stop()
    device.wall += 20 * YEAR
    device.up += 60
    device.start()
    assert not device.run_for(HOUR)
    device.stop()
    device.boot, device.up = "second", 10.0
    device.start()
    assert not device.run_for(22 * HOUR)
    assert device.waiting() == ["for a week"]
    assert device.run_for(2 * HOUR)
    assert device.waiting() == []


def test_a_message_queued_while_the_clock_was_not_set_does_not_expire_early(device: Device) -> None:
    assert device.run_for(DAY)
    device.stop()
    device.boot, device.up, device.is_synchronized = "second", 10.0, False
    device.start()
    assert device.run_for(60)
    device.queue("for a week")
    device.run_for(600)
    # The first answer of a time server sets the clock ahead by the time that the device was off.
    device.wall += 13 * DAY
    device.is_synchronized = True
    assert device.run_for(600)
    assert device.waiting() == ["for a week"]
    device.run_for(7 * DAY)
    assert device.waiting() == []


def test_a_new_sender_drops_no_message_because_of_a_wrong_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch, wall=NOW + YEAR, is_synchronized=False)
    device.outbox.put(NewOutgoingMessage(BOB, "for a week", "text", int(NOW), None))
    assert device.run_for(600)
    assert device.waiting() == ["for a week"]
    device.wall = 1000.0
    assert not device.run_for(600)
    assert device.waiting() == ["for a week"]
    device.stop()


def test_the_operators_command_makes_it_trust_the_clock(device: Device) -> None:
    assert device.run_for(DAY)
    device.queue("for a week")
    device.wall += YEAR
    assert not device.run_for(600)
    leave_command(device.directory, COMMAND_FILE_NAME)
    assert device.run_for(0)
    assert not (device.directory / COMMAND_FILE_NAME).exists()


@pytest.mark.parametrize(
    "damage", [b"", b"garbage", b"[]", b'{"latest_time": "x", "clock": 5}', b"\xff\xfe", b"[" * 50000]
)
def test_a_damaged_file_counts_as_absent(device: Device, damage: bytes) -> None:
    assert device.run_for(HOUR)
    device.stop()
    (device.directory / "outbox_clock.json").write_bytes(damage)
    device.start()
    assert device.run_for(HOUR)


def test_a_clock_file_that_cannot_be_written_delays_no_message(
    device: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    assert device.run_for(DAY)
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", fail)
        assert device.run_for(HOUR)
        device.wall += YEAR
        assert not device.run_for(HOUR)
        device.wall -= YEAR
        assert device.run_for(HOUR)
    assert "outbox_clock.json' cannot be written: No space left on device" in caplog.text
