"""The states of the clock, with clocks that the test sets and a real store."""

import pytest

from idlib.timekeeping import (
    ClockState,
)
from idlib.trust import EARLIEST_CREDIBLE_TIME
from tests.idlib.clocked_device import DAY, HOUR, NOW, YEAR, Device, state_of


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


def test_a_device_that_never_runs_for_a_whole_day_records_the_time_too(device: Device) -> None:
    for _ in range(3):
        with device.running() as keeper:
            device.run_for(9 * HOUR)
            assert state_of(keeper) is ClockState.LATE
            assert keeper.record() is not None
        device.start_anew(HOUR)
    assert device.recorded() > NOW


def test_a_new_device_long_after_the_release_trusts_its_clock_after_a_day(device: Device) -> None:
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


def test_one_wrong_answer_of_a_time_server_has_no_lasting_effect(device: Device) -> None:
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
def test_a_clock_that_jumps_is_uncertain_until_it_was_synchronized_for_a_day(device: Device, jump: float) -> None:
    with device.running() as keeper:
        device.run_for(DAY)
        device.wall += jump
        assert state_of(keeper) is (ClockState.UNCERTAIN if jump > 0 else ClockState.UNSET)
        device.is_synchronized = True
        device.run_for(23 * HOUR)
        assert state_of(keeper) is ClockState.UNCERTAIN
        device.run_for(2 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_the_time_of_a_wrong_clock_is_not_recorded(device: Device) -> None:
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


def test_only_the_time_while_synchronized_counts(device: Device) -> None:
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
def test_a_doubt_ends_even_if_the_receiver_or_the_system_restarts_each_day(
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


def test_a_doubt_ends_even_if_the_clock_is_behind_at_each_start(device: Device) -> None:
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


def test_a_doubt_starts_again_if_the_clock_jumps_again(device: Device) -> None:
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


def test_a_clock_that_was_far_ahead_at_the_start_is_trusted_once_it_is_corrected(device: Device) -> None:
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
def test_a_clock_that_has_jumped_at_a_start_is_recorded_only_after_a_day(
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


def test_a_clock_corrected_after_a_wrong_start_does_not_count_as_unset(device: Device) -> None:
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


def test_the_clock_of_a_device_that_is_on_for_an_hour_a_day_is_trusted_and_recorded(
    device: Device,
) -> None:
    device.is_synchronized = True
    for day in range(60):
        with device.running() as keeper:
            assert state_of(keeper) is ClockState.TRUSTED, day
            device.run_for(HOUR)
        device.start_anew(23 * HOUR)
    assert device.recorded() > NOW + 20 * DAY


def test_a_clock_observed_for_almost_a_day_does_not_confirm_a_later_wrong_time(device: Device) -> None:
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
def test_a_wrong_recorded_time_is_corrected_after_a_day(device: Device, *, is_synchronized: bool) -> None:
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


def test_a_clock_before_the_release_is_never_trusted(device: Device) -> None:
    device.wall = EARLIEST_CREDIBLE_TIME - 40 * DAY
    with device.running() as keeper:
        device.run_for(30 * DAY)
        assert state_of(keeper) is ClockState.UNSET
        keeper.trust()
        assert state_of(keeper) is ClockState.UNSET
    assert device.recorded() == 0


def test_a_clock_that_is_briefly_behind_at_the_start_changes_no_recorded_time(device: Device) -> None:
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


def test_a_doubt_and_its_duration_survive_a_restart(device: Device) -> None:
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


def test_a_clock_that_continues_from_the_time_of_switch_off_is_late_until_it_is_set(device: Device) -> None:
    with device.running():
        device.run_for(DAY)
    device.start_anew(0, wall=device.wall + 5)
    with device.running() as keeper:
        assert keeper.moment().may_be_late
        assert keeper.record() is not None
        # The first answer of a time server sets the clock ahead by the time that the device was off.
        device.wall += 9 * DAY
        device.is_synchronized = True
        device.up += 1
        assert state_of(keeper) is ClockState.TRUSTED
        keeper.record()
        assert device.memory_time() < NOW + 2 * DAY
        device.run_for(25 * HOUR)
    assert device.recorded() > NOW + 9 * DAY


def test_a_clock_that_is_never_synchronized_is_late_for_at_most_a_day(device: Device) -> None:
    with device.running():
        device.run_for(HOUR)
    device.start_anew(HOUR)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.LATE
        device.run_for(25 * HOUR)
        assert state_of(keeper) is ClockState.TRUSTED


def test_a_clock_behind_the_recorded_time_counts_as_not_set(device: Device) -> None:
    with device.running():
        device.run_for(DAY)
    device.start_anew(0, wall=NOW)
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNSET
        assert keeper.record() is None
    device.wall = 1000.0
    with device.running() as keeper:
        assert state_of(keeper) is ClockState.UNSET
