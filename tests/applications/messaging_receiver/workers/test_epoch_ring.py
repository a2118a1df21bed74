"""A worker reads its epoch keys from their files, and drops those that the receiver has destroyed."""

import gc
from pathlib import Path

import pytest

from idlib.epochs import EpochPrivateKey
from idlib.epochs.halves import Halves, KeptHalf
from messaging_receiver.workers.epoch_ring import EpochRing
from tests.applications.messaging_receiver.world import BOB

DAY = 24 * 3600
START = 1_800_000_000


class Device:
    def __init__(self, directory: Path) -> None:
        self.now = 0.0
        self.halves = Halves(directory, BOB)
        self.ring = EpochRing(directory, BOB, lambda: self.now)

    def create(self, number: int) -> KeptHalf:
        return self.halves.create(START + number * DAY, START + (number + 9) * DAY, 0.0, bytes(32))

    @property
    def held(self) -> dict[str, bytes]:
        return {key_id: key.seed for key_id, key in self.ring.keys.items()}


def copies_of(key: EpochPrivateKey) -> int:
    gc.collect()
    return sum(isinstance(one, EpochPrivateKey) and one.seed == key.seed for one in gc.get_objects())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_it_reads_the_keys_that_the_receiver_uses(device: Device) -> None:
    first, second, _other = (device.create(number) for number in range(3))

    device.ring.use([first.half.key_id, second.half.key_id])

    assert device.held == {kept.half.key_id: kept.key.seed for kept in (first, second)}


def test_a_key_that_the_receiver_has_destroyed_leaves_the_memory(device: Device) -> None:
    first, second = device.create(1), device.create(2)
    ids = first.half.key_id, second.half.key_id
    device.ring.use(ids)
    assert copies_of(first.key) == 2
    device.halves.destroy(first.half)

    device.ring.use(ids[1:])

    assert set(device.held) == {ids[1]}
    # The rest is this test's own.
    assert copies_of(first.key) == 1


def test_a_destroyed_key_is_not_read_again(device: Device) -> None:
    kept = device.create(1)
    device.halves.destroy(kept.half)

    device.ring.use([kept.half.key_id])

    assert not device.held


def test_a_key_that_appears_later_is_found_after_a_second(device: Device, tmp_path: Path) -> None:
    kept = device.create(1)
    path = tmp_path / kept.half.key_id
    elsewhere = path.rename(tmp_path / "elsewhere")
    device.ring.use([kept.half.key_id])
    elsewhere.rename(path)

    device.ring.use([kept.half.key_id])
    assert not device.held
    device.now += 1.0
    device.ring.use([kept.half.key_id])
    assert set(device.held) == {kept.half.key_id}


@pytest.mark.parametrize("contents", [b"", bytes(87), b"damaged" * 20])
def test_a_damaged_file_does_not_hide_the_other_keys(device: Device, tmp_path: Path, contents: bytes) -> None:
    first, second = device.create(1), device.create(2)
    (tmp_path / first.half.key_id).write_bytes(contents)

    device.ring.use([first.half.key_id, second.half.key_id])

    assert set(device.held) == {second.half.key_id}
