"""The states of the clock, with clocks that the test moves and a real store."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    is_killed: bool = False
    keeper: Timekeeper = field(init=False)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr("idlib.system.clock.boot", lambda: self.boot)
        self.monkeypatch.setattr("idlib.system.clock.is_synchronized", lambda: self.is_synchronized)

    @contextmanager
    def running(self) -> Iterator[Timekeeper]:
        with ReplayMemory(self.directory) as memory:
            self.keeper = Timekeeper(memory, lambda: self.wall, lambda: self.up)
            self.keeper.record()
            yield self.keeper
            if not self.is_killed:
                self.keeper.finish()

    def recorded(self) -> int:
        with ReplayMemory(self.directory) as memory:
            return memory.latest_time

    def memory_time(self) -> int:
        """Return the recorded time while the receiver runs."""
        return self.keeper._store.latest_time

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


def test_a_device_that_is_set_up_today_is_late_until_the_kernel_reports_synchronization(device: Device) -> None:
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.LATE
        assert keeper.record() is not None
        assert device.memory_time() == 0
        device.wall += 9 * DAY
        device.up += 10
        device.is_synchronized = True
        keeper.record()
        assert device.memory_time() == int(NOW + 9 * DAY)
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_device_whose_kernel_never_reports_synchronization_records_the_time_after_a_day(device: Device) -> None:
    with device.running() as keeper:
        device.run_for(23 * HOUR)
        assert device.memory_time() == 0
        device.run_for(HOUR)
        assert state_of(keeper) is ClockState.TRUSTED
        assert device.memory_time() == int(NOW + DAY)


def test_it_does_so_too_if_it_never_runs_for_a_day(device: Device) -> None:
    for _ in range(3):
        with device.running() as keeper:
            device.run_for(9 * HOUR)
            assert state_of(keeper) is ClockState.LATE
            assert keeper.record() is not None
        device.start_anew(HOUR)
    assert device.recorded() > NOW


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


def test_synchronization_may_be_interrupted_and_only_its_time_counts(device: Device) -> None:
    device.is_synchronized = True
    with device.running() as keeper:
        device.run_for(HOUR)
        device.wall += YEAR
        device.run_for(20 * HOUR)
        device.is_synchronized = False
        device.run_for(100 * DAY)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.is_synchronized = True
        device.run_for(3 * HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(2 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("is_synchronized", [False, True])
@pytest.mark.parametrize("off_for", [None, 60.0, 4 * HOUR])
def test_a_doubt_ends_if_the_receiver_or_the_system_is_started_each_day(
    device: Device, *, is_killed: bool, is_synchronized: bool, off_for: float | None
) -> None:
    device.is_killed, device.is_synchronized = is_killed, is_synchronized
    with device.running():
        device.run_for(25 * HOUR)
        device.wall += YEAR
        device.run_for(HOUR)
    for remaining in (4, 3, 2, 1):
        if off_for is not None:
            device.start_anew(off_for)
        with device.running() as keeper:
            assert (state_of(keeper) is ClockState.UNCERTAIN) is (remaining > 1)
            device.run_for(8 * HOUR)
    assert device.recorded() > NOW + YEAR


def test_a_doubt_ends_too_if_the_clock_is_behind_at_each_start_until_it_is_set(device: Device) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(25 * HOUR)
        device.wall += YEAR
        device.run_for(HOUR)
    for _ in range(4):
        device.is_synchronized = False
        device.start_anew(-HOUR)
        with device.running() as keeper:
            device.run_for(60)
            assert state_of(keeper) is ClockState.UNCERTAIN
            device.wall += 5 * HOUR
            device.is_synchronized = True
            device.run_for(7 * HOUR)
    assert state_of(keeper) is ClockState.TRUSTED
    assert device.recorded() > NOW + YEAR


def test_a_doubt_begins_anew_if_the_clock_moves_in_it(device: Device) -> None:
    device.is_synchronized = True
    with device.running() as keeper:
        device.run_for(25 * HOUR)
        device.wall += YEAR
        device.run_for(23.5 * HOUR)
        device.wall += 20 * YEAR
        device.run_for(HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
    assert device.recorded() < NOW + 2 * DAY
    device.start_anew(15 * DAY)
    with device.running() as keeper:
        device.run_for(23 * HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(2 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_clock_that_was_far_ahead_at_the_start_is_trusted_once_it_no_longer_is(device: Device) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(DAY)
    device.start_anew(YEAR)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.wall -= YEAR
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_receiver_that_was_stopped_for_long_trusts_a_clock_that_has_not_moved(device: Device) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(HOUR)
    device.wall, device.up = device.wall + 30 * DAY, device.up + 30 * DAY
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.TRUSTED


@pytest.mark.parametrize("is_synchronized", [False, True])
def test_a_clock_that_was_wrong_after_a_start_is_recorded_only_once_it_has_stood(
    device: Device, *, is_synchronized: bool
) -> None:
    device.is_synchronized = is_synchronized
    with device.running():
        device.run_for(3 * DAY)
    before = device.recorded()
    device.start_anew(13 * DAY)
    with device.running() as keeper:
        assert keeper.record() is not None
        device.run_for(10 * HOUR)
        assert device.memory_time() == pytest.approx(before + 10 * HOUR, abs=120)
        device.run_for(15 * HOUR)
        assert device.memory_time() == pytest.approx(device.wall, abs=700)


def test_a_wrong_answer_after_a_start_leaves_no_clock_unset_once_it_is_right_again(device: Device) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(3 * DAY)
    device.start_anew(13 * DAY)
    with device.running() as keeper:
        device.run_for(HOUR)
        device.wall -= 13 * DAY
        device.run_for(60)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(25 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_device_that_is_on_for_an_hour_a_day_is_trusted_and_records_what_it_has_shown_for_a_day(
    device: Device,
) -> None:
    device.is_synchronized = True
    for day in range(60):
        with device.running() as keeper:
            assert state_of(keeper) is ClockState.TRUSTED, day
            device.run_for(HOUR)
        device.start_anew(23 * HOUR)
    assert device.recorded() > NOW + 20 * DAY


def test_what_was_tried_for_almost_a_day_does_not_vouch_for_a_wrong_answer(device: Device) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(2 * DAY)
    device.start_anew(HOUR)
    with device.running():
        device.run_for(23 * HOUR)
    right = device.wall
    device.start_anew(13 * DAY)
    with device.running():
        device.run_for(2 * HOUR)
    assert device.recorded() < right + 3 * HOUR


@pytest.mark.parametrize("is_synchronized", [False, True])
def test_a_recorded_time_that_was_wrong_is_taken_back_after_a_day(device: Device, *, is_synchronized: bool) -> None:
    device.is_synchronized = True
    with device.running() as keeper:
        keeper.record()
        device.wall += YEAR
        keeper.trust()
    device.start_anew(-YEAR)
    device.is_synchronized = is_synchronized
    for _ in range(3):
        with device.running() as keeper:
            assert state_of(keeper) is ClockState.UNSET
            assert keeper.record() is None
            device.run_for(7.9 * HOUR)
    with device.running() as keeper:
        device.run_for(HOUR)
        assert state_of(keeper) is ClockState.TRUSTED or not is_synchronized
        assert keeper.record() is not None
    assert device.recorded() == pytest.approx(device.wall, abs=5)


def test_a_clock_before_this_software_was_made_is_never_trusted(device: Device) -> None:
    device.wall = EARLIEST_CREDIBLE_TIME - 40 * DAY
    with device.running() as keeper:
        device.run_for(30 * DAY)
        assert state_of(keeper) is ClockState.UNSET
        keeper.trust()
        assert state_of(keeper) is ClockState.UNSET
    assert device.recorded() == 0


def test_a_clock_that_is_behind_for_a_moment_at_the_start_takes_nothing_back(device: Device) -> None:
    device.is_synchronized = True
    with device.running():
        device.run_for(3 * DAY)
    recorded = device.recorded()
    device.is_synchronized = False
    device.start_anew(-2 * HOUR)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNSET
        device.run_for(60)
        assert device.memory_time() == recorded
        device.wall += 9 * HOUR
        device.is_synchronized = True
        device.up += 10
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
        assert device.memory_time() < NOW + 2 * DAY
        device.run_for(25 * HOUR)
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
def test_damaged_facts_take_their_defaults(device: Device, text: str) -> None:
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
def test_one_look_at_the_clock_is_judged_and_recorded(device: Device, first_wrong: int) -> None:
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


def test_the_operators_command_lowers_a_floor_that_lies_in_the_future(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_many_threads_may_ask_while_the_time_is_recorded(device: Device) -> None:
    with device.running() as keeper:
        threads = [threading.Thread(target=lambda: [keeper.moment() for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        device.run_for(DAY)
        for thread in threads:
            thread.join()
        assert state_of(keeper) is ClockState.TRUSTED


def test_the_senders_file_keeps_what_the_replay_memory_keeps(device: Device) -> None:
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
    """Obey."""


def test_a_command_is_taken_once_and_only_while_it_is_fresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_command_that_cannot_be_obeyed_yet_is_obeyed_later(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
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
