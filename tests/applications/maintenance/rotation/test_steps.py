from collections.abc import Callable
from pathlib import Path

import pytest

from idlib import keys
from idlib.errors import KeyFileError, PublishingError, TooEarlyError
from idlib.publishing.by_hand import ManualChangeError
from idlib.publishing.change import Change
from messaging_maintenance.rotation.device import RotationError
from messaging_maintenance.rotation.schedule import LOWERED_TTL
from messaging_maintenance.rotation.state import Stage, Way
from tests.applications.maintenance.rotation.world import DAY, HOUR, NAME, World, finish, killed_after, publish


def test_a_key_is_changed_without_losing_a_message(device: World) -> None:
    old = device.current
    device.rotation.start(Way.OVERLAP)
    assert device.state.stage is Stage.PUBLISHED
    new = device.next
    assert device.published() == {old, new}
    device.pass_time(HOUR + 1)
    device.rotation.switch()
    assert (device.current, device.next, device.previous) == (new, None, [old])
    device.pass_time(14 * DAY + 301)
    device.rotation.finish()
    assert device.published() == {new}
    device.pass_time(7 * DAY + 3 * HOUR)
    assert device.rotation.finish() is None
    assert (device.current, device.previous, device.rotation.state()) == (new, [], None)
    assert device.identity.tlsa_record(0).to_rdata() in device.records.rdatas


@pytest.mark.parametrize("way", Way)
def test_a_rotation_that_is_killed_anywhere_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    kills = 0
    while True:
        directory = tmp_path / str(kills)
        directory.mkdir()
        with monkeypatch.context() as patched:
            world = World(directory, patched)
            world.create()
            world.is_lossless = way is Way.OVERLAP
            old, is_killed = world.current, True
            world.events = 0
            with killed_after(world, kills):
                world.rotation.start(way)
                finish(world)
                is_killed = False
            if world.rotation.state() is None and world.current == old:
                world.rotation.start(way)
            finish(world)
            assert world.current not in {None, old}
            assert (world.next, world.previous) == (None, [])
            assert world.published() == {world.current}
            assert not list(directory.glob("*.crt.next.pem"))
            if not is_killed:
                break
        kills += 1
    assert kills > 20


def test_a_rotation_by_hand_shows_each_change_and_goes_on(device: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(change: Change) -> None:
        raise ManualChangeError(change)

    monkeypatch.setattr(device, "apply", ask)
    old = device.current
    for action, added, removed in (("start", 1, 0), ("finish", 0, 1)):
        step: Callable[[], object] = {
            "start": lambda: device.rotation.start(Way.OVERLAP),
            "finish": device.rotation.finish,
        }[action]
        with pytest.raises(ManualChangeError, match="DNS_PUBLISH is not set; make the changes above") as shown:
            step()
        change = shown.value.change
        assert (len(change.add), len(change.remove)) == (added, removed)
        with pytest.raises(ManualChangeError):
            step()
        device.put(change.after)
        step()
        if action == "start":
            device.pass_time(HOUR + 1)
            device.rotation.switch()
            device.pass_time(14 * DAY + 301)
    finish(device)
    assert old not in device.published()


def test_a_single_record_is_replaced_after_its_ttl_was_lowered(device: World) -> None:
    device.is_lossless = False
    old = device.current
    device.rotation.start(Way.SINGLE)
    assert (device.state.stage, device.records.ttl) == (Stage.LOWERED, LOWERED_TTL)
    # Who publishes meanwhile keeps the short TTL.
    publish(device)
    assert device.records.ttl == LOWERED_TTL
    with pytest.raises(TooEarlyError):
        device.rotation.switch()
    device.pass_time(600)
    device.rotation.switch()
    assert all(len(change.after.rdatas) == 1 for change in device.changes)
    assert device.records.ttl == 300
    assert device.published() == {device.current}
    assert device.previous == [old]
    with pytest.raises(TooEarlyError):
        device.rotation.finish()
    finish(device)
    assert device.previous == []


@pytest.mark.parametrize("way", Way)
def test_a_failed_change_is_tried_again(device: World, way: Way) -> None:
    device.is_lossless = way is Way.OVERLAP
    device.fault = PublishingError("the server is down", "start it")
    device.lowest = 400
    for _ in range(3):
        with pytest.raises(PublishingError):
            device.rotation.start(way)
    device.fault = None
    device.rotation.start(way)
    finish(device)
    assert device.published() == {device.current}
    assert len(device.previous) == 0


@pytest.mark.parametrize("stage", [Stage.PREPARED, Stage.PUBLISHED])
def test_no_record_is_published_for_a_next_key_that_is_gone(device: World, stage: Stage) -> None:
    device.is_lossless = False
    if stage is Stage.PREPARED:
        device.fault = PublishingError("the server is down", "start it")
        with pytest.raises(PublishingError):
            device.rotation.start(Way.OVERLAP)
        device.fault = None
    else:
        device.rotation.start(Way.OVERLAP)
        device.pass_time(HOUR + 1)
    before, current = device.records, device.current
    path = keys.next_key_path(device.directory, NAME)
    path.unlink()
    for contents in (None, device.identity.get_pki_asset("key")):
        if contents is not None:
            path.write_bytes(contents)
        with pytest.raises(KeyFileError, match=r"restore it from a backup; without one, run .*identity rotate --abort"):
            device.rotation.start(Way.OVERLAP) if stage is Stage.PREPARED else device.rotation.switch()
    assert (device.records, device.current) == (before, current)


def test_the_old_record_stays_if_the_new_key_does_not_sign(device: World) -> None:
    backup = device.identity.get_pki_asset("key")
    device.rotation.start(Way.OVERLAP)
    device.pass_time(HOUR + 1)
    device.rotation.switch()
    device.pass_time(15 * DAY)
    device.is_lossless = False
    keys.key_path(device.directory, NAME).write_bytes(backup)
    with pytest.raises(KeyFileError, match="is not the new key of the rotation"):
        device.rotation.finish()
    assert device.current in device.published()


def test_a_step_of_another_stage_is_refused_with_the_next_step(device: World) -> None:
    for step in (device.rotation.switch, device.rotation.finish):
        with pytest.raises(RotationError, match=r"no rotation is under way; run .*identity rotate start first"):
            step()
    device.rotation.start(Way.OVERLAP)
    with pytest.raises(
        RotationError,
        match=r"the next step of the rotation is switch, not finish; run .*identity rotate switch$",
    ):
        device.rotation.finish()
    for way in (Way.OVERLAP, Way.SINGLE):
        with pytest.raises(RotationError, match=r"a rotation is under way; the next step is: .*identity rotate switch"):
            device.rotation.start(way)


def test_an_interrupted_start_names_its_option(device: World) -> None:
    device.fault = PublishingError("the server is down", "start it")
    device.lowest = 400
    with pytest.raises(PublishingError):
        device.rotation.start(Way.SINGLE)
    with pytest.raises(RotationError, match=r"the next step is: .*identity rotate start --single"):
        device.rotation.start(Way.OVERLAP)
