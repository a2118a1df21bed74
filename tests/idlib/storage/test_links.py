"""A symbolic link in place of a file: all side files are created beside the target of the link."""

from pathlib import Path
from typing import Final

import pytest

from idlib.errors import StoreError
from idlib.storage import ReplayEntry
from idlib.storage.migration import OLD_FILE_NAME, migrate
from idlib.storage.outbox import Outbox, state_of_files
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.damage import OPEN, WRITE, aside, outgoing, run_and_kill

RELEASED: Final = Path(__file__).parents[2] / "releases/0.1.0/data" / OLD_FILE_NAME


@pytest.mark.parametrize("name", list(OPEN))
def test_the_side_files_are_beside_the_target_of_a_link(name: str, tmp_path: Path) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    data.mkdir()
    disk.mkdir()
    path = disk / f"{name}.sqlite3"
    (data / path.name).symlink_to(path)
    run_and_kill(data, *WRITE[name])
    with path.with_name(f"{path.name}-wal").open("r+b") as log:
        log.seek(32 + 5 * 4120 + 100)
        log.write(b"\xff" * 9)
    with OPEN[name](data) as store:
        if isinstance(store, WaitingMessages):
            assert len(list(store.index())) >= 36
        if isinstance(store, Outbox):
            assert store.waiting().number >= 36
    assert len(aside(path)) == 1
    assert [one.name for one in data.iterdir()] == [path.name]
    assert (data / path.name).is_symlink()


def test_the_missing_target_of_a_link_is_created_only_if_its_directory_exists(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "outbox.sqlite3").symlink_to(tmp_path / "absent" / "file")
    with pytest.raises(StoreError, match=r"absent/file' cannot be used: No such file or directory"):
        Outbox(data)
    (tmp_path / "absent").mkdir()
    Outbox(data).close()
    assert (tmp_path / "absent" / "file").is_file()


def test_a_message_in_an_outbox_behind_a_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "outbox.sqlite3").symlink_to(tmp_path / "outbox.sqlite3")
    with Outbox(tmp_path / "data") as outbox:
        before = state_of_files(tmp_path / "data")
        outbox.put(outgoing(1))
        assert state_of_files(tmp_path / "data") != before


def test_the_target_of_a_link_to_the_file_of_release_0_1_0_is_removed_after_migration(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "kept").write_bytes(RELEASED.read_bytes())
    (tmp_path / "data" / OLD_FILE_NAME).symlink_to(tmp_path / "kept")
    assert migrate(tmp_path / "data", 1_800_000_000, lambda name, _, digest: ReplayEntry(name, digest[:16], None))
    assert [one.name for one in tmp_path.iterdir()] == ["data"]
    assert not (tmp_path / "data" / OLD_FILE_NAME).is_symlink()
