"""The receiver's upkeep of its own epoch keys, with a real clock-keeping, disk and spool, in simulated time."""

import logging
from pathlib import Path

import pytest

from idlib.epochs.halves import Halves, KeptHalf, identity_fingerprint
from idlib.epochs.schedule import Lifetimes, period
from idlib.epochs.spool import spool_path
from idlib.errors import ConfigurationError
from messaging_receiver.epoch_upkeep import EpochUpkeep
from messaging_receiver.own_epochs import NONE, own_epochs_of
from tests.applications.messaging_receiver.epoch_receiver import (
    UPKEEP_SECONDS,
    Receiver,
    make_ahead,
)
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS
from tests.idlib.clocked_device import DAY, HOUR, NOW, YEAR, Device


def test_two_days_and_then_until_the_first_key_is_gone(receiver: Receiver) -> None:
    receiver.keep()
    first = receiver.spooled_id()
    assert receiver.files() == {first} == set(receiver.upkeep.keys)
    assert receiver.spooled().record.until == NOW + 9 * DAY

    receiver.run_for(DAY - HOUR)
    assert receiver.spooled_id() == first

    receiver.run_for(2 * HOUR)
    second = receiver.spooled_id()
    assert second != first
    assert set(receiver.upkeep.ids) == {first, second} == receiver.files()

    receiver.run_for(DAY)
    assert len(receiver.upkeep.ids) == 3
    assert receiver.spooled_id() not in {first, second}

    receiver.run_for(7 * DAY - 2 * HOUR)
    assert first in receiver.upkeep.keys
    receiver.run_for(2 * HOUR)
    assert first not in receiver.upkeep.keys
    assert receiver.files() == set(receiver.upkeep.ids)
    assert len(receiver.upkeep.ids) == 9
    assert receiver.upkeep.problem is None


def test_a_restart_changes_nothing(receiver: Receiver) -> None:
    receiver.keep()
    before, written = receiver.spooled_id(), spool_path(receiver.directory / "spool", BOB).read_bytes()

    receiver.start()
    receiver.keep()

    assert receiver.spooled_id() == before
    assert spool_path(receiver.directory / "spool", BOB).read_bytes() == written
    assert receiver.files() == {before}


def test_a_receiver_that_was_killed_before_the_record_was_in_the_spool_leaves_it_there_now(
    receiver: Receiver, device: Device
) -> None:
    start, until = period(int(device.wall), Lifetimes(int(DAY), int(8 * DAY)))
    halves = Halves(receiver.epochs, BOB)
    kept = halves.create(start, until, device.keeper.elapsed(), identity_fingerprint(receiver.key.public))

    receiver.keep()

    assert receiver.spooled_id() == kept.half.key_id
    assert receiver.files() == {kept.half.key_id}


@pytest.mark.parametrize("contents", [None, b"damaged", b""])
def test_a_spool_that_is_lost_or_damaged_is_written_again(receiver: Receiver, contents: bytes | None) -> None:
    receiver.keep()
    before = receiver.spooled_id()
    path = spool_path(receiver.directory / "spool", BOB)
    path.unlink()
    if contents is not None:
        path.write_bytes(contents)

    receiver.keep()

    assert receiver.spooled_id() == before


def test_a_new_identity_key_signs_a_new_epoch_key_at_once(receiver: Receiver) -> None:
    receiver.keep()
    before = receiver.spooled_id()
    receiver.key = KEYS[ALICE]

    receiver.keep()

    after = receiver.spooled_id()
    assert after != before
    assert set(receiver.upkeep.ids) == {before, after}


def test_nothing_is_created_or_destroyed_by_a_clock_that_jumped(receiver: Receiver, device: Device) -> None:
    receiver.keep()
    first = receiver.spooled_id()

    for jump in (YEAR, -2 * YEAR):
        device.wall += jump
        receiver.run_for(HOUR)
        assert receiver.files() == {first}
        assert receiver.spooled_id() == first

    device.wall += YEAR
    receiver.run_for(DAY)
    assert len(receiver.files()) == 2


def test_setting_the_clock_back_prolongs_no_key(receiver: Receiver, device: Device) -> None:
    receiver.keep()
    first = receiver.spooled_id()
    device.is_synchronized = False
    for _ in range(18):
        receiver.run_for(DAY / 2)
        device.wall -= DAY / 2

    receiver.run_for(UPKEEP_SECONDS)

    assert first not in receiver.upkeep.keys
    assert first not in receiver.files()


def test_a_device_that_was_off_destroys_what_is_overdue_before_it_knows_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(tmp_path / "data", monkeypatch, is_synchronized=True)
    with device.running():
        receiver = Receiver(tmp_path, device)
        receiver.keep()
        first = receiver.spooled_id()
    device.start_anew(off_for=10 * DAY)
    with device.running(), caplog.at_level(logging.INFO):
        restarted = EpochUpkeep(receiver.settings(), device.keeper)

        restarted.destroy_overdue()

    assert not restarted.keys
    assert not receiver.files()
    assert f"The epoch key {first} is destroyed" in caplog.text
    assert restarted.explain(first).startswith(f"the epoch key {first} was due to be destroyed at 2026-")
    assert restarted.explain(first).endswith(" s ago")
    assert "none of this device's" in restarted.explain("x" * 22)


def test_if_epoch_keys_are_turned_off_those_that_exist_are_used_and_destroyed(receiver: Receiver) -> None:
    receiver.keep()
    first = receiver.spooled_id()

    receiver.start(EPOCH_KEYS="off")
    receiver.run_for(2 * DAY)
    assert set(receiver.upkeep.ids) == {first}
    assert receiver.look() is None

    receiver.run_for(7 * DAY)
    assert not receiver.upkeep.ids
    assert not receiver.files()


def test_a_device_without_epoch_keys_has_none(receiver: Receiver, device: Device) -> None:
    epochs = own_epochs_of(receiver.settings(EPOCH_KEYS="off"), device.keeper)
    assert epochs is NONE
    assert not epochs.keys
    assert own_epochs_of(receiver.settings(), device.keeper) is not NONE


def test_a_key_that_cannot_be_created_is_a_problem_until_it_can(receiver: Receiver) -> None:
    receiver.epochs.write_text("in the way")

    receiver.keep()
    assert (receiver.problem() or "").startswith("epoch keys: ")

    receiver.epochs.unlink()
    receiver.keep()
    assert receiver.problem() is None
    assert receiver.files() == {receiver.spooled_id()}


def test_a_half_that_could_not_be_destroyed_opens_nothing_and_is_destroyed_later(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.keep()
    first = receiver.spooled_id()
    with monkeypatch.context() as failing:
        failing.setattr("idlib.epochs.halves._erase", _fail)
        receiver.run_for(9 * DAY + HOUR)
        assert first not in receiver.upkeep.keys
        assert receiver.problem() is not None
        assert first in receiver.files()

    receiver.keep()

    assert first not in receiver.files()
    assert receiver.problem() is None


def test_if_the_list_of_destroyed_keys_cannot_be_read_keys_are_used_created_and_destroyed(receiver: Receiver) -> None:
    receiver.keep()
    first = receiver.spooled_id()
    (receiver.epochs / f"{BOB}.destroyed").mkdir()

    receiver.start()
    receiver.keep()
    assert receiver.upkeep.ids == (first,)
    assert (receiver.problem() or "").startswith("epoch keys: the list of destroyed epoch keys, ")

    receiver.run_for(9 * DAY + HOUR)
    assert first not in receiver.upkeep.keys
    assert first not in receiver.files()
    assert len(receiver.files()) == 9
    assert receiver.spooled_id() in receiver.upkeep.keys


def _fail(_path: Path) -> None:
    raise OSError(5, "Input/output error")


def test_a_spool_that_cannot_be_written_is_a_problem_that_names_the_setting_and_the_key_is_used(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    spool = receiver.directory / "spool"
    spool.write_text("in the way")

    receiver.run_for(HOUR)
    assert (receiver.problem() or "").startswith("epoch keys: the epoch records cannot be written to ")
    assert "set EPOCH_SPOOL to a directory that this user can write to" in caplog.text
    assert len(receiver.upkeep.ids) == 1

    spool.unlink()
    receiver.keep()
    assert receiver.problem() is None
    assert receiver.upkeep.ids == (receiver.spooled_id(),)


@pytest.mark.parametrize("within", ["", "epochs"])
def test_epoch_keys_are_not_kept_where_a_backup_would_keep_them(
    receiver: Receiver, device: Device, within: str
) -> None:
    identity = receiver.directory / "identity"
    settings = receiver.settings(CRYPTO_PATH=str(identity), EPOCH_PATH=str(identity / within))

    with pytest.raises(ConfigurationError, match="which is in CRYPTO_PATH"):
        EpochUpkeep(settings, device.keeper)


def test_keys_that_were_created_ahead_of_time_are_used_one_after_the_other(receiver: Receiver) -> None:
    receiver.start(EPOCH_LENGTH="7d")
    receiver.keep()
    own = receiver.spooled_id()
    receiver.run_for(7 * DAY - HOUR / 2)
    ahead = make_ahead(receiver, 4)

    receiver.keep()
    assert set(receiver.upkeep.ids) == {own, *ahead}
    for key_id in ahead:
        assert receiver.spooled_id() == key_id
        receiver.run_for(7 * DAY)
    assert receiver.upkeep.problem is None
    # The first one that is created after them.
    assert receiver.spooled_id() not in {own, *ahead}
    assert own not in receiver.files()
    assert receiver.files() == set(receiver.upkeep.ids)


def test_a_key_that_was_created_ahead_of_time_is_destroyed_when_its_record_says(receiver: Receiver) -> None:
    receiver.start(EPOCH_LENGTH="7d")
    first, *_, last = make_ahead(receiver, 4)
    receiver.run_for(15 * DAY + UPKEEP_SECONDS)
    assert first not in receiver.files()
    assert last in receiver.upkeep.keys
    receiver.run_for(21 * DAY - 2 * UPKEEP_SECONDS)
    assert last in receiver.upkeep.keys
    receiver.run_for(2 * UPKEEP_SECONDS)
    assert last not in receiver.files()


def test_a_device_that_is_off_for_20_days_continues_with_a_key_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path / "data", monkeypatch, is_synchronized=True)
    with device.running():
        receiver = Receiver(tmp_path, device)
        ahead = make_ahead(receiver, 4)
    device.start_anew(off_for=20 * DAY)
    with device.running():
        receiver.start(EPOCH_LENGTH="7d")
        receiver.run_for(DAY + HOUR)
        assert set(receiver.upkeep.ids) == set(ahead[1:])
        assert receiver.spooled_id() == ahead[3]


def test_files_that_are_known_are_not_read_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read: list[str] = []
    original = Halves.read

    def noted(halves: Halves, key_id: str) -> KeptHalf | None:
        read.append(key_id)
        return original(halves, key_id)

    monkeypatch.setattr(Halves, "read", noted)
    receiver.keep()
    (new,) = make_ahead(receiver, 1)
    others = Halves(receiver.epochs, ALICE).create(int(NOW), int(NOW + DAY), 0.0, bytes(32)).half.key_id
    (receiver.epochs / ("x" * 21 + "w")).write_bytes(b"damaged")
    for _ in range(3):
        receiver.keep()
    assert read.count(new) == read.count(others) == 1
    assert set(receiver.upkeep.ids) == {new, receiver.spooled_id()} | receiver.files() - {others, "x" * 21 + "w"}
    assert caplog.text.count("Epoch key skipped") == 1


def test_keys_that_were_created_ahead_of_time_do_not_count_against_creating_one(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.epoch_upkeep.MAX_LIVING_KEYS", 2)
    make_ahead(receiver, 4)
    receiver.run_for(DAY + HOUR)
    assert receiver.problem() is None
    assert len(receiver.upkeep.ids) == 5


def test_too_many_keys_are_a_problem(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.epoch_upkeep.MAX_LIVING_KEYS", 2)
    receiver.run_for(2 * DAY + HOUR)
    assert (receiver.problem() or "").startswith("epoch keys: 2 epoch keys exist, so no new one is created")


def test_a_device_that_starts_with_a_clock_a_year_ahead_and_is_set_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path / "data", monkeypatch, is_synchronized=True)
    with device.running():
        receiver = Receiver(tmp_path, device)
        receiver.keep()
        first = receiver.spooled_id()
    device.start_anew(off_for=60.0)
    device.wall += YEAR
    with device.running():
        receiver.start()
        receiver.run_for(HOUR)
        assert receiver.files() == {first} == set(receiver.upkeep.ids)
        assert receiver.spooled_id() == first
        device.wall -= YEAR
        receiver.run_for(2 * HOUR)
        assert receiver.files() == {first}
        receiver.run_for(DAY)
        assert len(receiver.files()) == 2
    assert receiver.problem() is None


def test_a_clock_that_is_set_back_by_a_day_creates_nothing_until_it_is_trusted(
    receiver: Receiver, device: Device
) -> None:
    receiver.keep()
    receiver.run_for(12 * HOUR)
    first = receiver.spooled_id()
    device.wall -= DAY
    receiver.run_for(12 * HOUR)
    assert receiver.files() == {first}
    assert receiver.spooled_id() == first


def test_a_name_that_is_too_long_for_epoch_records_is_rejected_only_if_keys_are_created(receiver: Receiver) -> None:
    name = ".".join(["a" * 60] * 4) + ".test"
    receiver.start(IDENTITY_NAME=name, EPOCH_KEYS="off")
    with pytest.raises(ConfigurationError, match="use at most 246, or set EPOCH_KEYS=off"):
        receiver.start(IDENTITY_NAME=name)
