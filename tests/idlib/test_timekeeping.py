"""The states of the clock, with clocks that the test moves and a real store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlib.errors import ClockError, StoreError
from idlib.storage.replay import ReplayMemory
from idlib.timekeeping import (
    COMMAND_FILE_NAME,
    MAX_COMMAND_AGE_SECONDS,
    ClockState,
    Timekeeper,
    leave_command,
    take_command,
)
from idlib.trust import EARLIEST_CREDIBLE_TIME

NOW = EARLIEST_CREDIBLE_TIME + 3600.0
HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY


@dataclass
class Device:
    """A device with a wall clock and a boot clock; time passes for both unless the wall clock is set."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch
    wall: float = NOW
    up: float = 100.0
    boot: str = "first boot"
    is_synchronized: bool = False
    keeper: Timekeeper = field(init=False)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr("idlib.clock.boot", lambda: self.boot)
        self.monkeypatch.setattr("idlib.clock.is_synchronized", lambda: self.is_synchronized)

    @contextmanager
    def running(self) -> Iterator[Timekeeper]:
        with ReplayMemory(self.directory) as memory:
            self.keeper = Timekeeper(memory, lambda: self.wall, lambda: self.up)
            self.keeper.record()
            yield self.keeper
            self.keeper.finish()

    def recorded(self) -> int:
        with ReplayMemory(self.directory) as memory:
            return memory.latest_time

    def run_for(self, seconds: float) -> None:
        """Let time pass, while the receiver looks at the clock now and then."""
        while seconds > 0:
            step = min(seconds, 600.0)
            self.wall, self.up, seconds = self.wall + step, self.up + step, seconds - step
            self.keeper.record()

    def start_anew(self, off_for: float, wall: float | None = None) -> None:
        self.boot, self.up = f"{self.boot} and another", 20.0
        self.wall = self.wall + off_for if wall is None else wall


def state_of(keeper: Timekeeper) -> ClockState:
    return keeper.state


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


def test_a_device_that_is_set_up_today_records_the_time_and_lets_things_expire(device: Device) -> None:
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.TRUSTED
        assert keeper.record() is not None
    assert device.recorded() == int(NOW)


def test_a_device_that_is_set_up_long_after_the_release_needs_the_kernels_word_or_a_day(device: Device) -> None:
    device.wall += YEAR
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNCERTAIN
        assert keeper.record() is None
        device.run_for(23 * HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(2 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED
    assert device.recorded() > NOW + YEAR


def test_a_synchronized_kernel_is_enough_if_nothing_is_recorded_yet(device: Device) -> None:
    device.wall += YEAR
    device.is_synchronized = True
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.TRUSTED
    assert device.recorded() == int(NOW + YEAR)


def test_one_wrong_answer_of_a_time_server_does_no_damage(device: Device) -> None:
    device.is_synchronized = True
    with device.running() as keeper:
        device.run_for(DAY)
        device.wall += 20 * YEAR
        assert state_of(keeper) is ClockState.UNCERTAIN
        assert keeper.record() is None
        device.wall -= 20 * YEAR
        assert state_of(keeper) is ClockState.TRUSTED
        assert keeper.record() is not None
    assert device.recorded() == int(NOW + DAY)


@pytest.mark.parametrize("jump", [-HOUR, 301.0, -301.0, 3 * DAY, YEAR])
def test_a_clock_that_jumps_is_uncertain_until_the_kernel_has_vouched_for_a_day(device: Device, jump: float) -> None:
    with device.running() as keeper:
        device.run_for(DAY)
        device.wall += jump
        assert state_of(keeper) is (ClockState.UNCERTAIN if jump > 0 else ClockState.UNSET)
        device.is_synchronized = True
        device.run_for(23 * HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(2 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_wrong_clock_is_not_written_into_what_is_remembered(device: Device) -> None:
    with device.running() as keeper:
        assert keeper.credible_time() == int(NOW)
        device.wall += 20 * YEAR
        assert keeper.credible_time() == int(NOW)


@pytest.mark.parametrize("jump", [-299.0, 299.0])
def test_a_small_step_changes_nothing(device: Device, jump: float) -> None:
    with device.running() as keeper:
        device.run_for(DAY)
        device.wall += jump
        assert state_of(keeper) in {ClockState.TRUSTED, ClockState.UNSET}
        device.run_for(600)
        assert state_of(keeper) is ClockState.TRUSTED


def test_synchronization_that_is_interrupted_counts_from_its_last_beginning(device: Device) -> None:
    device.is_synchronized = True
    with device.running() as keeper:
        device.run_for(HOUR)
        device.wall += YEAR
        device.run_for(20 * HOUR)
        device.is_synchronized = False
        device.run_for(600)
        device.is_synchronized = True
        device.run_for(20 * HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(5 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_doubt_outlives_a_restart_and_so_does_the_time_that_it_has_lasted(device: Device) -> None:
    with device.running():
        device.run_for(DAY)
        device.wall += 3 * DAY
        device.run_for(10 * HOUR)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(8 * HOUR)
    device.start_anew(5 * DAY)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(7 * HOUR)
        assert state_of(keeper) is not ClockState.UNCERTAIN


def test_a_clock_that_goes_on_from_where_it_was_switched_off_is_late_until_it_is_set(device: Device) -> None:
    with device.running():
        device.run_for(DAY)
    device.start_anew(0, wall=device.wall + 5)
    with device.running() as keeper:
        assert keeper.moment().may_be_late
        assert keeper.record() is not None
        # The first answer of a time server: what it was off for.
        device.wall += 9 * DAY
        device.is_synchronized = True
        device.up += 1
        assert state_of(keeper) is ClockState.TRUSTED
        keeper.record()
    assert device.recorded() > NOW + 9 * DAY


def test_a_kernel_that_never_reports_synchronization_is_late_for_a_day_at_most(device: Device) -> None:
    with device.running():
        device.run_for(HOUR)
    device.start_anew(HOUR)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.LATE
        device.run_for(25 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_clock_behind_what_was_recorded_is_not_set(device: Device) -> None:
    with device.running():
        device.run_for(DAY)
    device.start_anew(0, wall=NOW)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNSET
        assert keeper.record() is None
    device.wall = 1000.0
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNSET


def test_the_operators_command_trusts_a_clock_and_takes_back_a_wrong_time(device: Device) -> None:
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


def test_the_time_for_which_the_system_runs_adds_up_across_its_starts_and_leaves_out_when_it_was_off(
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


def test_a_command_is_taken_once_and_only_while_it_is_fresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not take_command(tmp_path)
    assert leave_command(tmp_path).endswith("Z")
    assert take_command(tmp_path)
    assert not take_command(tmp_path)
    leave_command(tmp_path)
    path = tmp_path / COMMAND_FILE_NAME
    old = path.stat().st_mtime - MAX_COMMAND_AGE_SECONDS - 1
    os.utime(path, (old, old))
    assert not take_command(tmp_path)
    assert "ignored" in caplog.text
    assert not path.exists()


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
