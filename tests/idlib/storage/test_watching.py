"""Other programs can see whether a program watches the outbox."""

from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage.watching import is_watched, watching


def test_an_outbox_without_a_lock_file_is_not_watched(tmp_path: Path) -> None:
    assert not is_watched(tmp_path)
    assert not is_watched(tmp_path / "absent")


def test_an_outbox_is_watched_until_the_last_watcher_ends(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "for it"
    with watching(directory):
        assert is_watched(directory)
        with watching(directory):
            assert is_watched(directory)
        # Checking does not release the lock.
        assert is_watched(directory)
    assert not is_watched(directory)


def test_the_error_names_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"file/outbox.lock' cannot be used: .*; set DATA_PATH"),
        watching(tmp_path / "file"),
    ):
        pass
