import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.discovery import Found, PublishedKey
from idlib.errors import StoreError
from idlib.key_places import promote_next_key, write_next_key
from idlib.keys import (
    encode_private_key,
    key_path,
    locked,
    next_certificate_path,
    next_key_path,
    previous_key_paths,
    read_private_key,
    replace_key,
)
from idlib.names import IdentityName
from messaging_receiver.own_identity import PREVIOUS_KEY_SECONDS, OwnKeys

BOB = IdentityName("bob.example")
DAY = 24 * 3600
NOW = 1_800_000_000


class Facts:
    """Facts kept in memory, and the number of writes."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.written = 0
        self.is_broken = False

    def get_fact(self, name: str) -> str | None:
        return self.texts.get(name)

    def set_fact(self, name: str, value: str) -> None:
        if self.is_broken:
            raise StoreError("the disk is full")
        self.texts[name] = value
        self.written += 1


class Device:
    """A receiver's key files, which are replaced in the same way as by create_selfsigned_id.py."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts = Facts()
        self.now = float(NOW)
        self.generated: list[PrivateKey] = []
        self.replace_key()

    def replace_key(self) -> PrivateKey:
        key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
        with locked(self.directory):
            replace_key(self.directory, BOB, encode_private_key(key), os.geteuid())
        # create_selfsigned_id.py writes all key files again.
        for path in self.directory.iterdir():
            os.utime(path, (self.now, self.now))
        self.generated.append(key)
        return key

    def start(self, clock: Callable[[], float | None] | None = None) -> OwnKeys:
        present = read_private_key(key_path(self.directory, BOB))
        return OwnKeys(self.directory, BOB, present, self.facts, clock or (lambda: self.now))


def found(*keys: PrivateKey) -> Found:
    return Found(BOB, tuple(PublishedKey("3 1 0", key.public.der) for key in keys), (), "made in a test")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def natives(keys: tuple[PrivateKey, ...]) -> list[ec.EllipticCurvePublicKey]:
    return [key.public.native for key in keys]  # type: ignore[misc]


def test_a_previous_key_is_tried_until_8_days_after_its_record_was_seen_to_be_gone(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    for _ in range(30):
        own_keys.note_records(found(new, old))
        device.now += DAY
    assert natives(own_keys.keys) == natives((new, old))
    for _ in range(8 * 24 + 1):
        own_keys.note_records(found(new))
        assert natives(own_keys.keys) == natives((new, old))
        device.now += 3600
    caplog.clear()
    for _ in range(3):
        own_keys.note_records(found(new))
        assert natives(own_keys.keys) == natives((new,))
    path = previous_key_paths(device.directory, BOB)[0]
    assert caplog.messages == [f"The key in {path} is no longer tried: its record has been gone for 8 days"]


def test_the_time_since_a_record_is_gone_survives_restarts(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    device.start().note_records(found(new, old))
    device.start().note_records(found(new))
    device.now += PREVIOUS_KEY_SECONDS
    assert natives(device.start().keys) == natives((new, old))
    device.now += 1
    assert natives(device.start().keys) == natives((new,))


def test_no_key_is_retired_while_the_clock_may_be_wrong(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    device.start().note_records(found(new, old))
    device.start().note_records(found(new))
    facts = dict(device.facts.texts)
    own_keys = device.start(lambda: device.now if device.now < NOW + 50 * DAY else None)
    device.now += 365 * DAY
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))
    assert device.facts.texts == facts
    assert natives(device.start(lambda: None).keys) == natives((new, old))


def test_a_key_that_was_retired_because_of_a_wrong_clock_is_tried_again(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    own_keys.note_records(found(new, old))
    own_keys.note_records(found(new))
    device.now += 13 * DAY
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new,))
    device.now -= 13 * DAY
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))


def test_a_time_noted_by_a_wrong_clock_is_corrected(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    own_keys.note_records(found(new, old))
    device.now += 365 * DAY
    own_keys.note_records(found(new))
    device.now -= 365 * DAY
    own_keys.note_records(found(new))
    device.now += PREVIOUS_KEY_SECONDS + 1
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new,))


@pytest.mark.parametrize("damage", ["garbage", "1e9", "-5", "\u0661", "9" * 5000])
def test_a_damaged_fact_retires_no_key(device: Device, damage: str) -> None:
    (old,) = device.generated
    new = device.replace_key()
    device.start().note_records(found(new))
    device.facts.texts = dict.fromkeys(device.facts.texts, damage)
    own_keys = device.start()
    assert natives(own_keys.keys) == natives((new, old))
    own_keys.note_records(found(new))
    device.now += PREVIOUS_KEY_SECONDS + 1
    assert natives(device.start().keys) == natives((new,))


def test_nothing_changes_while_dns_does_not_answer(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    own_keys.note_records(found(new, old))
    device.now += 100 * DAY
    own_keys.refresh()
    assert natives(own_keys.keys) == natives((new, old))
    assert natives(device.start().keys) == natives((new, old))
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))


def test_a_key_that_was_never_seen_in_dns_counts_from_its_replacement(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    device.now += 100 * DAY
    own_keys = device.start()
    assert natives(own_keys.keys) == natives((new, old))
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new,))


def test_a_key_whose_file_is_from_the_future_counts_from_now(device: Device) -> None:
    (old,) = device.generated
    device.now += 1000 * DAY
    new = device.replace_key()
    device.now -= 1000 * DAY
    own_keys = device.start()
    own_keys.note_records(found(new))
    device.now += PREVIOUS_KEY_SECONDS
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))
    device.now += 1
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new,))


def test_a_key_is_tried_again_once_its_record_is_back(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    device.now += 100 * DAY
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new,))
    own_keys.note_records(found(new, old))
    assert natives(own_keys.keys) == natives((new, old))
    own_keys.note_records(found(new))
    device.now += PREVIOUS_KEY_SECONDS
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))


def test_a_key_that_was_put_back_in_place_and_replaced_again_is_tried(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    device.now += 100 * DAY
    own_keys.note_records(found(new))
    with locked(device.directory):
        replace_key(device.directory, BOB, encode_private_key(old), os.geteuid())
    own_keys.refresh()
    own_keys.note_records(found(old))
    newest = device.replace_key()
    own_keys.refresh()
    own_keys.note_records(found(newest))
    assert natives(own_keys.keys)[:2] == natives((newest, old))


def test_each_previous_key_has_its_own_time(device: Device) -> None:
    (first,) = device.generated
    second = device.replace_key()
    third = device.replace_key()
    own_keys = device.start()
    own_keys.note_records(found(third, second, first))
    own_keys.note_records(found(third, second))
    device.now += PREVIOUS_KEY_SECONDS + 1
    own_keys.note_records(found(third, second))
    assert natives(own_keys.keys) == natives((third, second))


def test_the_store_is_written_only_when_something_changes(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    for _ in range(1000):
        own_keys.note_records(found(new, old))
    assert device.facts.written == 2
    for _ in range(1000):
        device.now += 60
        own_keys.note_records(found(new))
    assert device.facts.written == 3


def test_a_store_that_cannot_be_written_retires_no_key(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = device.start()
    device.now += 100 * DAY
    device.facts.is_broken = True
    with pytest.raises(StoreError):
        own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))


def test_without_a_store_every_previous_key_is_tried(device: Device) -> None:
    (old,) = device.generated
    new = device.replace_key()
    own_keys = OwnKeys(device.directory, BOB, new, clock=lambda: device.now)
    device.now += 100 * DAY
    own_keys.note_records(found(new))
    assert natives(own_keys.keys) == natives((new, old))


def test_a_new_key_file_is_read_and_a_bad_one_is_not(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    own_keys = device.start()
    (old,) = device.generated
    new = device.replace_key()
    own_keys.refresh()
    assert natives(own_keys.keys) == natives((new, old))
    assert own_keys.present.public.native == new.public.native
    key_path(device.directory, BOB).write_text("no key")
    own_keys.refresh()
    assert natives(own_keys.keys) == natives((new, old))
    assert "Key not reloaded, the old one stays in use" in caplog.text


def write_next(device: Device) -> PrivateKey:
    key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    with locked(device.directory):
        write_next_key(device.directory, BOB, encode_private_key(key), os.geteuid())
    return key


def test_the_next_key_is_tried_as_soon_as_it_exists(device: Device) -> None:
    own_keys = device.start()
    (present,) = device.generated
    following = write_next(device)
    own_keys.refresh()
    assert natives(own_keys.keys) == natives((present, following))
    assert own_keys.present.public.native == present.public.native
    assert natives(device.start().keys) == natives((present, following))


def test_a_damaged_next_key_is_skipped_with_a_warning(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    own_keys = device.start()
    next_key_path(device.directory, BOB).write_text("no key")
    own_keys.refresh()
    assert natives(own_keys.keys) == natives(tuple(device.generated))
    (record,) = [record for record in caplog.records if "Next key skipped" in record.getMessage()]
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize("reads_before", range(2))
def test_a_key_that_moves_while_the_files_are_read_is_not_missed(
    device: Device, reads_before: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own_keys = device.start()
    (present,) = device.generated
    following = write_next(device)
    reads = 0

    def read(path: Path) -> PrivateKey:
        nonlocal reads
        if reads == reads_before:
            with locked(device.directory):
                next_certificate_path(device.directory, BOB).write_text("a certificate")
                promote_next_key(device.directory, BOB, os.geteuid())
        reads += 1
        return read_private_key(path)

    monkeypatch.setattr("messaging_receiver.own_identity.read_private_key", read)
    own_keys.refresh()
    expected = {present.public.der, following.public.der}
    assert {key.public.der for key in own_keys.keys} == expected
    own_keys.refresh()
    assert {key.public.der for key in own_keys.keys} == expected
    assert own_keys.present.public.der == following.public.der
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
