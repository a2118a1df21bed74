"""What the check of the clock stores on disk, and the operator's command to trust the clock."""

import json
import os
import threading
from pathlib import Path

import pytest

from idlib.errors import ClockError, StoreError
from idlib.storage.clock_facts import FACT
from idlib.storage.clock_file import ClockFile
from idlib.storage.replay import ReplayMemory
from idlib.storage.values import Remembered, ReplayEntry
from idlib.timekeeping import (
    COMMAND_FILE_NAME,
    MAX_COMMAND_AGE_SECONDS,
    ClockState,
    Timekeeper,
    keep_clock,
    leave_command,
    take_command,
)
from tests.idlib.clocked_device import DAY, HOUR, NOW, YEAR, Device, state_of


def test_the_operators_command_makes_the_clock_trusted_and_corrects_the_recorded_time(device: Device) -> None:
    with device.running() as keeper:
        device.wall += YEAR
        keeper.trust()
        assert state_of(keeper) is ClockState.TRUSTED
    assert device.recorded() == int(NOW + YEAR)
    device.wall -= YEAR
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNSET
        keeper.trust()
        assert state_of(keeper) is ClockState.TRUSTED
    assert device.recorded() == int(NOW)


def test_the_running_time_adds_up_across_restarts_without_the_time_switched_off(
    device: Device,
) -> None:
    with device.running() as keeper:
        began = keeper.elapsed()
        device.run_for(HOUR)
    with device.running() as keeper:
        assert keeper.elapsed() == pytest.approx(began + HOUR, abs=2)
        device.wall += YEAR
        device.run_for(HOUR)
    device.start_anew(50 * DAY)
    with device.running() as keeper:
        device.run_for(HOUR)
        assert keeper.elapsed() == pytest.approx(began + 3 * HOUR + device.up - HOUR, abs=2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "[1, 2]",
        '"text"',
        "[" * 100_000,
        '{"elapsed": "much", "offset": NaN, "doubt": "none", "trial": 5, "up": null, "boot": 7}',
        '{"elapsed": 1e999, "wall": ' + "9" * 400 + ', "trial": {"seconds": true, "least": []}, "recorded_at": "x"}',
    ],
)
def test_damaged_facts_are_replaced_by_their_defaults(device: Device, text: str) -> None:
    with device.running():
        device.run_for(DAY)
    with ReplayMemory(device.directory) as memory:
        memory.set_fact(FACT, text)
        for name in ("elapsed", "clock_offset", "clock_uncertain_since"):
            memory.set_fact(name, "garbage")
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.TRUSTED
        assert keeper.elapsed() == device.up
        device.run_for(HOUR)
    with ReplayMemory(device.directory) as memory:
        assert json.loads(memory.get_fact(FACT) or "")["elapsed"] == device.up


@pytest.mark.parametrize("first_wrong", range(1, 6))
def test_the_time_that_is_checked_is_the_time_that_is_recorded(device: Device, first_wrong: int) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(2 * DAY)
        device.up += 601
        right, looks = device.wall + 601, 0

        def wall() -> float:
            nonlocal looks
            looks += 1
            return right + (20 * YEAR if looks >= first_wrong else 0)

        device.keeper._wall_clock = wall
        for _ in range(3):
            moment = device.keeper.moment()
            assert moment.is_certain is (moment.now < right + YEAR)
            assert device.keeper.credible_time() < right + YEAR
            device.keeper.record()
        device.keeper.finish()
    assert device.recorded() < right + DAY


def test_the_operators_command_lowers_a_floor_in_the_future(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    fresh = ReplayEntry("alice.example", bytes(16), int(NOW + 400))
    with ReplayMemory(device.directory) as memory:
        memory.raise_floor(int(NOW + YEAR))
        Timekeeper(memory, lambda: device.wall, lambda: device.up).trust()
        assert memory.verdict(fresh) is Remembered.NEW
        assert memory.verdict(ReplayEntry("alice.example", bytes(16), int(NOW + 300))) is Remembered.MAYBE_FORGOTTEN
        assert "are no longer refused as possible repeats" in caplog.text
        caplog.clear()
        Timekeeper(memory, lambda: device.wall, lambda: device.up).trust()
        assert "are no longer refused as possible repeats" not in caplog.text
    with ReplayMemory(device.directory) as memory:
        assert memory.verdict(fresh) is Remembered.NEW


def test_many_threads_can_check_the_clock_while_the_time_is_recorded(device: Device) -> None:
    with device.running() as keeper:
        threads = [threading.Thread(target=lambda: [keeper.moment() for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        device.run_for(DAY)
        for thread in threads:
            thread.join()
        assert state_of(keeper) is ClockState.TRUSTED


def test_the_senders_file_has_the_same_facts_as_the_replay_memory(device: Device) -> None:
    keeper = Timekeeper(ClockFile(device.directory), lambda: device.wall, lambda: device.up)
    device.keeper, device.is_synchronized = keeper, True
    device.run_for(DAY)
    device.wall += YEAR
    device.run_for(20 * HOUR)
    for _ in range(2):
        device.keeper = Timekeeper(ClockFile(device.directory), lambda: device.wall, lambda: device.up)
        device.keeper.record()
        assert state_of(device.keeper) is ClockState.UNCERTAIN
        assert device.keeper.trusted_time() is None
        device.run_for(3 * HOUR)
    assert device.keeper.trusted_time() == device.wall
    assert ClockFile(device.directory).latest_time > NOW + YEAR


def nothing() -> None:
    """Execute the command without an effect."""


def test_a_command_is_executed_once_and_only_while_it_is_fresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not take_command(tmp_path, nothing)
    assert leave_command(tmp_path).endswith("Z")
    assert take_command(tmp_path, nothing)
    assert not take_command(tmp_path, nothing)
    leave_command(tmp_path)
    path = tmp_path / COMMAND_FILE_NAME
    old = path.stat().st_mtime - MAX_COMMAND_AGE_SECONDS - 1
    os.utime(path, (old, old))
    assert not take_command(tmp_path, nothing)
    assert "ignored" in caplog.text
    assert not path.exists()


def test_a_command_that_fails_is_executed_later(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    with device.running() as keeper:
        device.wall += YEAR
        leave_command(device.directory)
        with monkeypatch.context() as broken:
            broken.setattr(ReplayMemory, "reset_time", fail)
            with pytest.raises(StoreError):
                keep_clock(keeper, device.directory)
        assert state_of(keeper) is ClockState.UNCERTAIN
        keep_clock(keeper, device.directory)
        assert state_of(keeper) is ClockState.TRUSTED
        assert not (device.directory / COMMAND_FILE_NAME).exists()


def fail(*_: object) -> None:
    raise StoreError("the disk is full", "make room")


def test_a_command_follows_no_link_and_needs_a_clock_that_can_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / COMMAND_FILE_NAME).symlink_to(victim)
    with pytest.raises(StoreError):
        leave_command(tmp_path)
    assert victim.read_text() == "precious"
    monkeypatch.setattr("time.time", lambda: 1000.0)
    with pytest.raises(ClockError, match="1970-01-01"):
        leave_command(tmp_path)
