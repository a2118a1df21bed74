"""The file of deferred messages, damaged so SQLite gives wrong results: the store still opens, works and closes."""

from pathlib import Path
from typing import Final

import pytest

from idlib.errors import StoreError
from idlib.storage.file_errors import DamagedError
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.damage import aside, overwrite, short_message

NAME: Final = "waiting.sqlite3"
ROOT: Final = 2


def fill(directory: Path) -> None:
    with WaitingMessages(directory) as store:
        store.change([short_message(number) for number in range(1, 120)], ())


def test_a_damaged_root_page_is_repaired_at_the_start_without_loss(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / NAME
    overwrite(path, [ROOT], b"\xff" * 16)
    for _ in range(2):
        with WaitingMessages(tmp_path) as store:
            assert [one.number for one in store.index()] == list(range(1, 120))
        assert len(aside(path)) == 1


def test_damage_found_while_wiping_is_repaired(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([short_message(number) for number in range(1, 600)], ())
        store._wiped_at = 0.0
        store.change([], range(1, 600))
        store.change([short_message(1)], ())
        store._connection.execute("DROP TABLE waiting")
        store._is_wipe_due, store._wiped_at = True, 0.0
        store.wipe()
        assert store.last_number() == 0
    assert len(aside(tmp_path / NAME)) == 1


def test_a_durable_change_is_not_reported_as_failed_if_wiping_finds_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)

    def fail() -> None:
        raise DamagedError("the log is damaged")

    with WaitingMessages(tmp_path) as store:
        monkeypatch.setattr(store, "_wipe_now", fail)
        store._wiped_at = 0.0
        store.change([], [1])
    with WaitingMessages(tmp_path) as store:
        assert [one.number for one in store.index()] == list(range(2, 120))


def test_a_file_that_cannot_be_wiped_at_the_start_is_not_kept_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)

    def fail(_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(WaitingMessages, "_wipe_now", fail)
        with pytest.raises(StoreError, match="the disk is full"):
            WaitingMessages(tmp_path)
    WaitingMessages(tmp_path).close()
