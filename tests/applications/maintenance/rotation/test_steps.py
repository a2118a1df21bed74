import re
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from idlib import certificates, keys
from idlib.errors import ConcurrentChangeError, KeyFileError, NotServedError, PublishingError, TooEarlyError
from idlib.publishing.by_hand import ManualChangeError
from idlib.publishing.change import Change, TlsaSet
from idlib.settings import KeyType
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.state import Stage, Way
from messaging_maintenance.rotation.steps import LOWERED_TTL, RotationError, records_to_publish
from tests.applications.maintenance.rotation.world import DAY, HOUR, NAME, World, killed_after, publish


def finish(world: World) -> None:
    """Take each step as soon as it is safe, as the maintenance service does, until the rotation has ended."""
    for _ in range(100):
        step = world.rotation.next_step()
        if step is None:
            return
        if step.safe_at is not None:
            world.pass_time(step.safe_at - world.wall + 1)
        assert world.rotation.advance() is not None
    pytest.fail("the rotation does not end")


def issue(world: World, request: bytes) -> bytes:
    """Return what a CA answers: the certificate, after that of the CA itself."""
    asked = x509.load_pem_x509_csr(request)
    key = keys.read_private_key(keys.next_key_path(world.directory, NAME))
    assert asked.public_key() == key.public.native
    identity = world.identity
    own = certificates.build_self_signed_certificate(
        key,
        identity.build_x509_name(),
        identity.build_subject_alt_name(),
        datetime.now(UTC),
    )
    return identity.get_pki_asset("cert") + own.public_bytes(Encoding.PEM)


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


@pytest.mark.parametrize("key_type", KeyType)
def test_a_key_is_changed_to_another_type(device: World, key_type: KeyType) -> None:
    device.environment["KEY_TYPE"] = key_type
    device.rotation.start(Way.OVERLAP)
    finish(device)
    sizes = {KeyType.P256: 256, KeyType.RSA2048: 2048, KeyType.RSA3072: 3072}
    key = keys.read_private_key(keys.key_path(device.directory, NAME))
    assert key.native.key_size == sizes[key_type]
    assert device.published() == {device.current}


def test_a_step_that_is_not_safe_yet_is_refused_with_the_time(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    for command in ("switch", "finish", "finish"):
        step = device.rotation.next_step()
        assert step is not None
        assert step.safe_at is not None
        with pytest.raises(
            TooEarlyError, match=rf"run .*rotate_id\.py {command} again after 20\d\d-\d\d-\d\d \d\d:\d\d UTC"
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
    device.put(TlsaSet(6 * HOUR, device.records.rdatas))
    device.lowest = 6 * HOUR
    device.rotation.start(Way.OVERLAP)
    device.pass_time(6 * HOUR + 299)
    with pytest.raises(TooEarlyError):
        device.rotation.switch()
    finish(device)


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


@pytest.mark.parametrize("lost", [("key",), ("crt",), ("key", "crt")])
def test_a_lost_identity_is_replaced_at_once(device: World, lost: tuple[str, ...]) -> None:
    device.is_lossless = False
    for kind in lost:
        (device.directory / f"{NAME}.{kind}.pem").unlink()
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert device.identity.tlsa_record(0).to_rdata() in device.records.rdatas
    finish(device)
    assert device.previous == []


def test_an_identity_that_is_lost_with_its_directory_is_replaced_at_once(device: World) -> None:
    device.is_lossless = False
    shutil.rmtree(device.directory)
    with pytest.raises(KeyFileError, match="there is no directory"):
        device.rotation.start(Way.OVERLAP)
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert stat.S_IMODE(device.directory.stat().st_mode) == 0o700
    assert device.rotation.state() is None


def test_a_stolen_key_is_replaced_at_once_with_every_other_record(device: World) -> None:
    device.is_lossless = False
    stolen = device.current
    device.put(TlsaSet.of(300, [*device.records.rdatas, b"\3\1\1" + bytes(32)]))
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert stolen != device.current
    assert device.previous == [stolen]
    finish(device)
    assert device.previous == []


@pytest.mark.parametrize("stage", [Stage.PUBLISHED, Stage.SWITCHED, Stage.WITHDRAWN])
def test_a_key_stolen_during_a_rotation_takes_the_next_one_with_it(device: World, stage: Stage) -> None:
    device.is_lossless = False
    device.rotation.start(Way.OVERLAP)
    while device.state.stage is not stage:
        step = device.rotation.next_step()
        assert step is not None
        device.pass_time(step.safe_at - device.wall + 1 if step.safe_at else 0)
        device.rotation.advance()
    stolen = {device.current, device.next, *device.previous} - {None}
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    assert device.current not in stolen
    assert set(device.previous) == stolen
    # A second theft does not wait for the end of the first.
    device.rotation.start(Way.COMPROMISED)
    assert len(device.previous) == 3
    finish(device)
    assert (device.next, device.previous) == (None, [])


def test_the_new_key_signs_even_if_a_secondary_lags_behind(device: World) -> None:
    device.is_lossless, device.lags = False, True
    with pytest.raises(NotServedError):
        device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}
    device.lags = False
    device.rotation.start(Way.COMPROMISED)
    assert device.state.stage is Stage.WITHDRAWN


def test_a_certificate_of_a_ca_is_installed_for_the_next_key(device: World) -> None:
    request = device.rotation.request(Way.OVERLAP)
    assert device.rotation.request(Way.OVERLAP) != b""
    assert device.rotation.advance() is None
    with pytest.raises(RotationError, match="a rotation is under way"):
        device.rotation.request(Way.SINGLE)
    with pytest.raises(KeyFileError, match="is not for the key"):
        device.rotation.install(device.identity.get_pki_asset("cert"))
    device.rotation.install(issue(device, request))
    assert device.state.stage is Stage.PUBLISHED
    finish(device)
    assert device.published() == {device.current}
    with pytest.raises(RotationError, match="no rotation is under way"):
        device.rotation.install(b"")


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


def test_a_rotation_is_not_aborted_after_the_switch(device: World) -> None:
    with pytest.raises(RotationError, match="no rotation is under way"):
        device.rotation.abort()
    device.rotation.start(Way.OVERLAP)
    device.pass_time(HOUR + 1)
    device.rotation.switch()
    with pytest.raises(
        RotationError,
        match=r"cannot be aborted at the stage switched; the next step is: .*rotate_id\.py finish; then start another",
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


def test_a_record_that_vanished_before_the_switch_is_waited_for_again(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    device.pass_time(HOUR + 1)
    old = device.state.old
    assert old is not None
    device.put(TlsaSet.of(300, [old]))
    device.pass_time(600)
    with pytest.raises(
        TooEarlyError, match=r"had vanished from DNS; it was published again; run .*rotate_id\.py switch again after"
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
    device.put(TlsaSet.of(300, [old]))
    publish(device)
    with pytest.raises(TooEarlyError, match="messages could be lost"):
        device.rotation.switch()


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
        with pytest.raises(
            KeyFileError, match=r"restore it from a backup; without one, run dane-messenger identity rotate --abort"
        ):
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


def test_only_one_program_takes_a_step_at_a_time(device: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_maintenance.rotation.exclusion._LOCK_SECONDS", 0.0)
    device.rotation.start(Way.OVERLAP)
    with (
        alone(device.settings),
        pytest.raises(KeyFileError, match="another program is changing the key"),
        alone(device.settings, 0),
    ):
        pass
    with alone(device.settings, 0):
        pass


def test_a_stolen_key_that_is_replaced_while_its_record_is_being_published_is_not_published_again(
    device: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is refused once, because the records have changed meanwhile, and is made again."""
    device.is_lossless = False
    device.put(TlsaSet.of(0, ()))
    stolen = device.current
    apply = device.apply
    monkeypatch.setattr("messaging_maintenance.rotation.steps.alone", partial(alone, seconds=0.0))

    def apply_late(_: Change) -> None:
        monkeypatch.setattr(device, "apply", apply)
        with suppress(KeyFileError):
            device.rotation.start(Way.COMPROMISED)
        raise ConcurrentChangeError("the records were changed meanwhile")

    monkeypatch.setattr(device, "apply", apply_late)
    publish(device)
    assert device.current == stolen or stolen not in device.published()


def test_a_step_of_another_stage_is_refused_with_the_next_step(device: World) -> None:
    for step in (device.rotation.switch, device.rotation.finish):
        with pytest.raises(RotationError, match=r"no rotation is under way; run .*rotate_id\.py start first"):
            step()
    device.rotation.start(Way.OVERLAP)
    with pytest.raises(
        RotationError, match=r"the next step of the rotation is switch, not finish; run .*rotate_id\.py switch$"
    ):
        device.rotation.finish()
    for way in (Way.OVERLAP, Way.SINGLE):
        with pytest.raises(RotationError, match=r"a rotation is under way; the next step is: .*rotate_id\.py switch"):
            device.rotation.start(way)


def test_an_interrupted_start_names_its_option(device: World) -> None:
    device.fault = PublishingError("the server is down", "start it")
    device.lowest = 400
    with pytest.raises(PublishingError):
        device.rotation.start(Way.SINGLE)
    with pytest.raises(RotationError, match=r"the next step is: .*rotate_id\.py start --single"):
        device.rotation.start(Way.OVERLAP)


def test_no_rotation_starts_if_recipients_would_not_try_both_keys(
    device: World, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = []
    for _ in range(2):
        other = World(tmp_path_factory.mktemp("other"), monkeypatch)
        other.identity.create_selfsigned_identity()
        foreign.append(other.identity.tlsa_record(0).to_rdata())
    device._patch(monkeypatch)
    device.is_lossless = False
    device.put(TlsaSet.of(300, [*device.records.rdatas, *foreign]))
    with pytest.raises(RotationError, match=r"records of 2 other keys.*--remove-foreign"):
        device.rotation.start(Way.OVERLAP)
    assert device.next is None
    device.rotation.start(Way.COMPROMISED)
    assert device.published() == {device.current}


def test_the_records_to_publish_follow_the_stage(device: World) -> None:
    def wanted() -> list[bytes]:
        return sorted(record.to_rdata() for record in records_to_publish(device.identity, device.settings))

    old = wanted()
    device.rotation.request(Way.OVERLAP)
    assert wanted() == old
    device.rotation.abort()
    device.rotation.start(Way.OVERLAP)
    new = device.state.new
    assert new is not None
    both = sorted([*old, new])
    assert wanted() == both
    device.pass_time(HOUR + 1)
    device.rotation.switch()
    assert wanted() == both
    device.pass_time(15 * DAY)
    device.rotation.finish()
    assert wanted() == [new]
    finish(device)
    assert wanted() == [new]


def test_the_record_of_a_stolen_key_is_never_published_again(device: World) -> None:
    device.is_lossless = False
    device.fault = PublishingError("the server is down", "start it")
    with pytest.raises(PublishingError):
        device.rotation.start(Way.COMPROMISED)
    assert device.state.stage is Stage.REPLACING
    assert [record.to_rdata() for record in records_to_publish(device.identity, device.settings)] == [device.state.new]


def test_the_state_names_no_secret(device: World) -> None:
    device.rotation.start(Way.OVERLAP)
    contents = keys.rotation_path(device.directory, NAME).read_text()
    assert "PRIVATE" not in contents
    assert not re.search(re.escape(device.identity.get_pki_asset("key").decode().splitlines()[1]), contents)
