"""At each moment of a rotation, a sender finds a mark and an epoch record signed by a key that it has for the name."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib import keys
from idlib.algorithms import PublicKey
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord, read_epoch_records
from idlib.epochs.spool import write_spool
from idlib.publishing.change import Change, PublishedSet
from idlib.records import is_marked, key_of
from idlib.settings import load
from messaging_maintenance.epoch_following import publish_after_switch, publish_before_switch
from messaging_maintenance.epoch_publishing import publish_spool
from messaging_maintenance.rotation.state import Way
from tests.applications.maintenance.rotation.world import DAY, HOUR, NAME, World
from tests.applications.maintenance.test_epoch_marking import EpochWorld, turn_on


class Receiver:
    """Signs the epoch record in the spool with the present key: with a new epoch key if the identity key is new."""

    def __init__(self, epochs: EpochWorld) -> None:
        self._epochs = epochs
        self._signer: bytes | None = None
        self._number = 10

    def keep(self) -> None:
        key = keys.read_private_key(keys.key_path(self._epochs.world.directory, NAME))
        if key.public.der == self._signer:
            return
        self._signer = key.public.der
        self._number += 1
        at = int(self._epochs.world.wall)
        record = EpochRecord(at - HOUR, at + 60 * DAY, EpochPrivateKey(bytes([self._number]) * 32).public)
        write_spool(self._epochs.spool, NAME, [SignedEpochRecord.create(record, NAME, key)])


@pytest.fixture
def epochs(device: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EpochWorld:
    epochs = EpochWorld(device, tmp_path / "spool", monkeypatch)
    turn_on(epochs)
    return epochs


def is_reachable(epochs: EpochWorld) -> bool:
    """Return whether a sender that looks everything up now could encrypt to this device."""
    rdatas = epochs.world.records.rdatas
    assert rdatas
    assert all(map(is_marked, rdatas)), "a record has lost the mark"
    published = [PublicKey.from_der(key) for rdata in rdatas if (key := key_of(rdata)) is not None]
    return bool(read_epoch_records(NAME, epochs.texts, published).usable)


def watch(epochs: EpochWorld, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets, for each change of either set in DNS, whether the device is reachable after it."""
    seen: list[bool] = []
    put, apply = epochs.world.put, epochs.apply

    def noting_put(records: PublishedSet) -> None:
        put(records)
        seen.append(is_reachable(epochs))

    def noting_apply(change: Change) -> None:
        apply(change)
        seen.append(is_reachable(epochs))

    monkeypatch.setattr(epochs.world, "put", noting_put)
    monkeypatch.setattr(epochs, "apply", noting_apply)
    return seen


def running(epochs: EpochWorld, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Return a receiver that notices a new key while the maintenance program waits for it."""
    receiver = Receiver(epochs)
    receiver.keep()
    monkeypatch.setattr(time, "sleep", lambda _: receiver.keep())
    return receiver


def follow(epochs: EpochWorld) -> None:
    publish_before_switch(load(epochs.world.environment))
    publish_after_switch(epochs.world.rotation.state(), load(epochs.world.environment), epochs.world.reported.append)


@pytest.mark.parametrize("key_type", ["p256", "rsa2048"])
def test_with_an_overlap_a_sender_is_never_without_an_epoch_key(
    epochs: EpochWorld, monkeypatch: pytest.MonkeyPatch, key_type: str
) -> None:
    receiver = running(epochs, monkeypatch)
    seen = watch(epochs, monkeypatch)
    epochs.world.environment["KEY_TYPE"] = key_type
    epochs.world.rotation.start(Way.OVERLAP)
    follow(epochs)
    for _ in range(10):
        step = epochs.world.rotation.next_step()
        if step is None:
            break
        if step.safe_at is not None:
            epochs.world.pass_time(step.safe_at - epochs.world.wall + 1)
        epochs.world.rotation.advance()
        # Also before the maintenance service has published what the new key signs.
        assert is_reachable(epochs)
        receiver.keep()
        publish_spool(load(epochs.world.environment))
    assert seen
    assert all(seen)


def test_with_a_single_record_both_keys_sign_the_epoch_record_before_the_switch(
    epochs: EpochWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(epochs, monkeypatch)
    publish_spool(load(epochs.world.environment))
    ttl = epochs.records.ttl
    epochs.world.rotation.start(Way.SINGLE)
    follow(epochs)
    number = len(epochs.texts)
    assert number == 2
    # A cache may have the records without the second signature.
    assert epochs.world.state.ttl >= ttl
    step = epochs.world.rotation.next_step()
    assert step is not None
    assert step.safe_at is not None
    assert step.safe_at >= epochs.world.wall + ttl
    epochs.world.pass_time(step.safe_at - epochs.world.wall + 1)
    epochs.world.is_lossless = False
    seen = watch(epochs, monkeypatch)
    epochs.world.rotation.switch()
    follow(epochs)
    assert seen == [True, True]
    assert epochs.world.reported[-1] == "The epoch record that the new key has signed is published."


@pytest.mark.parametrize("lose", [lambda _: None, lambda world: keys.certificate_path(world.directory, NAME).unlink()])
def test_after_a_theft_the_mark_stays_and_the_epoch_record_is_replaced_at_once(
    epochs: EpochWorld, monkeypatch: pytest.MonkeyPatch, lose: Callable[[World], None]
) -> None:
    running(epochs, monkeypatch)
    stolen = epochs.texts
    lose(epochs.world)
    epochs.world.is_lossless = False
    seen = watch(epochs, monkeypatch)
    epochs.world.rotation.start(Way.COMPROMISED)
    follow(epochs)
    assert seen == [False, True]
    assert set(stolen).isdisjoint(epochs.texts)


def test_a_receiver_that_does_not_run_is_named(epochs: EpochWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs.world.is_lossless = False
    epochs.world.rotation.start(Way.COMPROMISED)
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(waited))
    follow(epochs)
    assert sum(waited) == 30
    assert "check that it is running" in epochs.world.reported[-1]
    assert not is_reachable(epochs)


def test_by_hand_the_user_is_told_to_publish_new_epoch_records(epochs: EpochWorld) -> None:
    del epochs.world.environment["DNS_PUBLISH"]
    epochs.world.is_lossless = False
    epochs.world.rotation.start(Way.COMPROMISED)
    follow(epochs)
    assert "publish those that dane-messenger identity epoch records prints now" in epochs.world.reported[-1]


def test_a_device_without_the_mark_publishes_nothing_more(
    device: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = EpochWorld(device, tmp_path / "spool", monkeypatch)
    plain.world.is_lossless = False
    plain.world.rotation.start(Way.COMPROMISED)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits for a receiver without epoch keys"))
    follow(plain)
    assert plain.texts == ()
