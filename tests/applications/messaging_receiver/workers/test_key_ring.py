"""A worker reads its private keys from their files, and follows the receiver's choice."""

from pathlib import Path

import pytest

from idlib.keys import encode_private_key, generate_private_key, key_path, next_key_path, previous_key_paths
from idlib.settings import KeyType
from messaging_receiver.workers.key_ring import KeyRing, fingerprint
from tests.applications.messaging_receiver.world import BOB


class Device:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.ring = KeyRing(directory, BOB, lambda: self.now)
        self.present = key_path(directory, BOB)
        self.next = next_key_path(directory, BOB)
        self.previous = previous_key_paths(directory, BOB)[0]

    def write(self, path: Path) -> bytes:
        """Write a new key and return its fingerprint."""
        key = generate_private_key(KeyType.P256)
        path.write_bytes(encode_private_key(key))
        return fingerprint(key)

    @property
    def held(self) -> tuple[bytes, ...]:
        return tuple(map(fingerprint, self.ring.keys))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_it_has_the_keys_in_the_order_of_the_receiver(device: Device) -> None:
    keys = [device.write(path) for path in (device.next, device.present, device.previous)]
    device.ring.use([keys[1], keys[0], keys[2]])
    assert device.held == (keys[1], keys[0], keys[2])
    assert device.ring.is_complete


def test_it_holds_only_the_keys_that_the_receiver_uses(device: Device) -> None:
    present, previous = device.write(device.present), device.write(device.previous)
    device.ring.use([present])
    assert device.held == (present,)
    device.ring.use([present, previous])
    device.previous.unlink()
    device.ring.use([present])
    device.ring.use([present, previous])
    assert device.held == (present,)
    assert not device.ring.is_complete


def test_it_follows_a_key_that_moves(device: Device) -> None:
    old = device.write(device.present)
    device.ring.use([old])
    device.present.rename(device.previous)
    new = device.write(device.present)
    device.ring.use([new, old])
    assert device.held == (new, old)


def test_it_keeps_a_key_whose_file_can_no_longer_be_read(device: Device) -> None:
    present = device.write(device.present)
    device.ring.use([present])
    device.present.write_text("damaged")
    device.ring.use([present])
    assert device.held == (present,)


def test_a_key_that_appears_later_is_found_after_a_second(device: Device) -> None:
    coming = device.write(device.present)
    elsewhere = device.present.rename(device.directory / "elsewhere")
    device.ring.use([coming])
    elsewhere.rename(device.present)
    device.ring.use([coming])
    assert not device.ring.keys
    device.now = 1.0
    device.ring.use([coming])
    assert device.held == (coming,)
