"""The private halves of a device with several receivers: each may destroy what is overdue, at the same time."""

from pathlib import Path
from typing import Final

import pytest

from idlib.epochs.destroyed import KEPT_SECONDS
from idlib.epochs.halves import Halves, KeptHalf
from idlib.files import open_regular
from idlib.names import IdentityName

NAME: Final = IdentityName("bob._device.example.com")
DAY: Final = 24 * 3600
START: Final = 1_800_000_000


@pytest.fixture
def halves(tmp_path: Path) -> Halves:
    return Halves(tmp_path, NAME)


@pytest.fixture
def others(tmp_path: Path) -> Halves:
    """Return what another receiver has of the same directory."""
    return Halves(tmp_path, NAME)


def create(halves: Halves) -> KeptHalf:
    return halves.create(START, START + 9 * DAY, 1.0, bytes(32))


def test_a_half_that_another_receiver_has_destroyed_is_destroyed(halves: Halves, others: Halves) -> None:
    kept = create(halves)
    others.erase(kept.half)
    halves.erase(kept.half)
    halves.finish_erasing()
    assert not halves.has_file(kept.half.key_id)


def test_two_receivers_may_destroy_a_half_at_the_same_moment(
    halves: Halves, others: Halves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = create(halves)

    def remove_first(path: Path, flags: int) -> int:
        monkeypatch.undo()
        descriptor = open_regular(path, flags)
        others.erase(kept.half)
        return descriptor

    monkeypatch.setattr("idlib.epochs.halves.open_regular", remove_first)
    halves.erase(kept.half)
    assert not list(tmp_path.iterdir())


def test_a_half_that_another_receiver_is_destroying_is_not_called_damaged(
    halves: Halves, others: Halves, tmp_path: Path
) -> None:
    kept = create(halves)
    path = tmp_path / kept.half.key_id
    path.write_bytes(bytes(path.stat().st_size))
    assert others.stock() == others.stock({kept.half.key_id})
    assert not others.stock().unreadable
    others.finish_erasing()
    assert not path.exists()


def test_a_half_that_is_gone_when_it_is_looked_at_again_is_not_called_damaged(
    halves: Halves, others: Halves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = create(halves)
    path = tmp_path / kept.half.key_id
    path.write_bytes(b"damaged")
    assert len(others.stock().unreadable) == 1
    original = Halves.read

    def removed(self: Halves, key_id: str) -> KeptHalf | None:
        try:
            return original(self, key_id)
        finally:
            path.unlink()

    monkeypatch.setattr(Halves, "read", removed)
    assert not others.stock().unreadable


def test_the_list_is_read_again_if_another_receiver_has_written_it(halves: Halves, others: Halves) -> None:
    first, second = create(halves), create(others)
    assert not others.destroyed.ids()
    halves.destroyed.add(first.half.key_id, first.half.until)
    assert others.destroyed.until(first.half.key_id) == first.half.until
    others.destroyed.add(second.half.key_id, second.half.until)
    assert halves.destroyed.ids() == {first.half.key_id, second.half.key_id}


def test_what_another_receiver_has_noted_is_forgotten_in_time_and_not_before(halves: Halves, others: Halves) -> None:
    kept = create(halves)
    assert not others.destroyed.ids()
    halves.destroyed.add(kept.half.key_id, kept.half.until)
    others.destroyed.forget(kept.half.until + KEPT_SECONDS - 1)
    assert halves.destroyed.ids() == {kept.half.key_id}
    others.destroyed.forget(kept.half.until + KEPT_SECONDS)
    assert not halves.destroyed.ids()


def test_only_leftovers_wait_for_the_receiver_that_creates_keys(halves: Halves, tmp_path: Path) -> None:
    kept = create(halves)
    leftover = tmp_path / f"{kept.half.key_id}.new"
    (tmp_path / kept.half.key_id).rename(leftover)
    halves.finish_erasing()
    assert leftover.exists()
    halves.remove_leftovers()
    assert not leftover.exists()
