"""When each step is safe, by clocks that are set and restarted."""

import pytest

from idlib.errors import TooEarlyError
from idlib.publishing.change import PublishedSet
from messaging_maintenance.rotation.running_time import note_running_time
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import DAY, HOUR, World, finish, publish


def test_a_step_that_is_not_safe_yet_is_refused_with_the_time(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    for command in ("switch", "finish", "finish"):
        step = device.rotation.next_step()
        assert step is not None
        assert step.safe_at is not None
        with pytest.raises(
            TooEarlyError,
            match=rf"run .*identity rotate {command} again after 20\d\d-\d\d-\d\d \d\d:\d\d UTC",
        ):
            getattr(device.rotation, command)()
        assert device.rotation.advance() is None
        device.pass_time(step.safe_at - device.wall - 1)
        with pytest.raises(TooEarlyError):
            getattr(device.rotation, command)()
        device.pass_time(1)
        getattr(device.rotation, command)()
    assert device.rotation.state() is None


def test_a_clock_that_is_set_forward_makes_no_step_safe(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    device.wall += 30 * DAY
    with pytest.raises(TooEarlyError):
        device.rotation.switch()
    device.up += HOUR
    device.is_lossless = False
    device.rotation.switch()
    assert device.state.stage is Stage.SWITCHED


def test_a_restart_of_the_system_does_not_stop_the_waiting_time(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    device.restart()
    device.pass_time(HOUR + 1)
    device.rotation.switch()


def test_a_wrong_clock_after_a_restart_makes_no_step_safe(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    device.restart()
    device.wall += 10 * 365 * DAY
    device.is_set = False
    assert device.rotation.advance() is None
    with pytest.raises(TooEarlyError):
        device.rotation.switch()
    device.wall -= 10 * 365 * DAY
    device.is_set = True
    device.pass_time(HOUR)
    device.rotation.switch()


def test_a_rotation_that_was_started_by_a_late_clock_waits_after_it_was_set_and_a_restart(device: World) -> None:
    device.is_lossless = False
    device.wall -= 90 * DAY
    device.is_set = False
    device.rotation.start(Way.OVERLAP)
    device.restart()
    device.wall += 90 * DAY
    device.is_set = True
    with pytest.raises(TooEarlyError):
        device.rotation.switch()
    device.restart()
    device.pass_time(HOUR)
    device.rotation.switch()


@pytest.mark.parametrize("restart", [False, True])
def test_a_rotation_does_not_wait_for_a_time_that_only_a_wrong_clock_has_shown(device: World, restart: bool) -> None:  # noqa: FBT001
    device.is_lossless = False
    device.wall += 10 * 365 * DAY
    device.rotation.start(Way.OVERLAP)
    device.wall -= 10 * 365 * DAY
    if restart:
        device.restart()
    step = device.rotation.next_step()
    assert step is not None
    assert step.safe_at is not None
    assert step.safe_at - device.wall <= HOUR
    assert device.rotation.advance() is None
    device.restart()
    device.pass_time(HOUR)
    device.rotation.switch()
    assert device.state.stage is Stage.SWITCHED


def test_the_ttl_of_the_zone_is_waited_for(device: World) -> None:
    device.put(PublishedSet(6 * HOUR, device.records.rdatas))
    device.lowest = 6 * HOUR
    device.rotation.start(Way.OVERLAP)
    device.pass_time(6 * HOUR + 299)
    with pytest.raises(TooEarlyError):
        device.rotation.switch()
    finish(device)


def test_a_record_that_vanished_before_the_switch_is_waited_for_again(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    device.pass_time(HOUR + 1)
    old = device.state.old
    assert old is not None
    device.put(PublishedSet.of(300, [old]))
    device.pass_time(600)
    with pytest.raises(
        TooEarlyError,
        match=r"had vanished from DNS; it was published again; run .*identity rotate switch again after",
    ):
        device.rotation.switch()
    with pytest.raises(TooEarlyError, match="messages could be lost"):
        device.rotation.switch()
    finish(device)


def test_a_record_that_is_published_again_by_hand_is_waited_for_again(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    device.pass_time(HOUR + 1)
    old = device.state.old
    assert old is not None
    device.put(PublishedSet.of(300, [old]))
    publish(device)
    with pytest.raises(TooEarlyError, match="messages could be lost"):
        device.rotation.switch()


def test_running_time_adds_up_over_the_starts_of_a_system_whose_clock_is_never_known_to_be_right(
    device: World,
) -> None:
    device.is_set, device.is_lossless = False, False
    device.rotation.start(Way.OVERLAP)
    for _ in range(6):
        device.restart()
        device.pass_time(601)
        # An attacker, or a time server that is wrong.
        device.wall += 365 * DAY
        note_running_time(device.settings, device.now())
        assert device.state.stage is Stage.PUBLISHED
        device.wall -= 365 * DAY
    device.restart()
    assert device.rotation.advance() is not None
    assert device.state.stage is Stage.SWITCHED
    assert device.state.running is None


def test_less_running_time_than_the_waiting_time_is_not_enough(device: World) -> None:
    device.is_set, device.is_lossless = False, False
    device.rotation.start(Way.OVERLAP)
    for _ in range(5):
        device.restart()
        device.pass_time(600)
        device.wall += 365 * DAY
        note_running_time(device.settings, device.now())
    with pytest.raises(TooEarlyError):
        device.rotation.switch()


def test_nothing_is_written_if_the_clock_is_right_or_no_rotation_is_under_way(device: World) -> None:
    note_running_time(device.settings, device.now())
    assert device.rotation.state() is None
    device.rotation.start(Way.OVERLAP)
    before = device.state
    device.pass_time(600)
    note_running_time(device.settings, device.now())
    assert device.state == before
