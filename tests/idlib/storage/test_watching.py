"""A program that watches the outbox can be seen, and one that has ended cannot."""

from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage.watching import is_watched, watching


def test_nobody_watches_where_nothing_is(tmp_path: Path) -> None:
    assert not is_watched(tmp_path)
    assert not is_watched(tmp_path / "absent")


def test_it_is_watched_until_the_last_one_has_ended(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "for it"
    with watching(directory):
        assert is_watched(directory)
        with watching(directory):
            assert is_watched(directory)
        # To look does not end it.
        assert is_watched(directory)
    assert not is_watched(directory)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"file/outbox.lock' cannot be used: .*; set DATA_PATH"),
        watching(tmp_path / "file"),
    ):
        pass
