"""Giving up the next key."""

from pathlib import Path

import pytest

from idlib import keys
from idlib.errors import NotServedError
from idlib.publishing.by_hand import ManualChangeError
from idlib.publishing.change import Change
from messaging_maintenance.rotation.device import RotationError
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import HOUR, World, finish, killed_after


def test_a_request_can_be_aborted(device: World) -> None:
    device.rotation.request(Way.OVERLAP)
    assert device.rotation.abort() is None
    assert (device.next, device.rotation.state()) == (None, None)


@pytest.mark.parametrize("way", [Way.OVERLAP, Way.SINGLE])
def test_a_rotation_is_aborted_before_the_switch(device: World, way: Way) -> None:
    old = device.current
    device.rotation.start(way)
    new = device.next
    device.rotation.abort()
    assert device.published() == {old}
    assert (device.current, device.next) == (old, None)
    assert device.previous == ([new] if way is Way.OVERLAP else [])
    finish(device)
    assert (device.current, device.previous, device.rotation.state()) == (old, [], None)


@pytest.mark.parametrize("way", [Way.OVERLAP, Way.SINGLE])
def test_after_an_abort_another_rotation_starts_at_once_and_keeps_the_key_that_was_given_up(
    device: World, way: Way
) -> None:
    device.rotation.start(Way.OVERLAP)
    given_up = device.next
    device.rotation.abort()
    device.is_lossless = way is Way.OVERLAP
    device.rotation.start(way)
    assert device.next not in {None, given_up}
    assert given_up in device.previous
    finish(device)
    assert (device.previous, device.rotation.state()) == ([], None)


@pytest.mark.parametrize("abort_again", [False, True])
def test_a_start_after_an_abort_that_is_killed_anywhere_keeps_the_key_that_was_given_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    abort_again: bool,  # noqa: FBT001
) -> None:
    for kills in range(30):
        directory = tmp_path / str(kills)
        directory.mkdir()
        with monkeypatch.context() as patched:
            world = World(directory, patched)
            world.create()
            world.rotation.start(Way.OVERLAP)
            given_up = world.next
            world.rotation.abort()
            with killed_after(world, kills):
                world.rotation.start(Way.OVERLAP)
            step = world.rotation.next_step()
            if step is not None and step.command == "start":
                world.rotation.start(Way.OVERLAP)
            world.check_nothing_is_lost()
            assert given_up in world.previous
            if abort_again and world.state.stage is not Stage.WITHDRAWN:
                world.rotation.abort()
                world.check_nothing_is_lost()
            finish(world)
            assert world.previous == []


def test_a_request_that_is_given_up_after_an_abort_keeps_the_key_that_was_given_up(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    given_up = device.next
    device.rotation.abort()
    device.rotation.request(Way.OVERLAP)
    device.rotation.abort()
    assert (device.next, device.previous) == (None, [given_up])
    device.rotation.start(Way.OVERLAP)
    finish(device)
    assert device.previous == []


def test_a_next_key_whose_record_was_not_entered_by_hand_can_be_replaced_at_once(
    device: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(change: Change) -> None:
        if change.add or change.remove:
            raise ManualChangeError(change)

    monkeypatch.setattr(device, "apply", ask)
    with pytest.raises(ManualChangeError):
        device.rotation.start(Way.OVERLAP)
    device.rotation.abort()
    with pytest.raises(ManualChangeError) as asked:
        device.rotation.start(Way.OVERLAP)
    assert device.state.new in asked.value.change.add


def test_rotations_are_aborted_again_and_again_only_while_every_key_has_a_place(device: World) -> None:
    given_up = []
    for _ in range(keys.MAX_PREVIOUS_KEYS):
        device.rotation.start(Way.OVERLAP)
        given_up.append(device.next)
        device.rotation.abort()
    with pytest.raises(RotationError, match=r"a rotation is under way; the next step is: .*identity rotate finish"):
        device.rotation.start(Way.OVERLAP)
    assert set(device.previous) == set(given_up)
    finish(device)
    assert device.previous == []
    device.rotation.start(Way.OVERLAP)


def test_a_rotation_is_not_aborted_after_the_switch(device: World) -> None:
    with pytest.raises(RotationError, match="no rotation is under way"):
        device.rotation.abort()
    device.rotation.start(Way.OVERLAP)
    device.pass_time(HOUR + 1)
    device.rotation.switch()
    with pytest.raises(
        RotationError,
        match=r"cannot be aborted at the stage switched; the next step is: .*rotate finish; then start another",
    ):
        device.rotation.abort()


def test_an_abort_that_is_killed_anywhere_keeps_the_key_whose_record_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kills in range(60):
        directory = tmp_path / str(kills)
        directory.mkdir()
        with monkeypatch.context() as patched:
            world = World(directory, patched)
            world.create()
            # Published, but the stage is not written: the process was killed, or a name server was down.
            world.lags = True
            with pytest.raises(NotServedError):
                world.rotation.start(Way.OVERLAP)
            world.lags = False
            new = world.next
            with killed_after(world, kills):
                world.rotation.abort()
            if world.state.stage is Stage.PREPARED:
                world.rotation.abort()
            assert new in world.previous
            world.check_nothing_is_lost()
