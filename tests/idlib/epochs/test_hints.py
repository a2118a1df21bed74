"""What to do if a directory of epoch keys or records cannot be used: the advice fits the cause."""

import errno
import os
from pathlib import Path

import pytest

from idlib.epochs.hints import directory_hint


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_a_matter_of_permissions(tmp_path: Path, number: int) -> None:
    assert directory_hint("EPOCH_PATH", tmp_path, error(number)) == "free space on the disk"


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EEXIST, errno.EROFS])
def test_what_permissions_cannot_solve_needs_another_directory(tmp_path: Path, number: int) -> None:
    hint = directory_hint("EPOCH_SPOOL", tmp_path, error(number))
    assert hint == "set EPOCH_SPOOL to a directory that this user can write to"


def test_without_access_the_permissions_are_named(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o500)
    hint = directory_hint("EPOCH_PATH", directory, error(errno.EACCES))
    assert hint == f"set EPOCH_PATH to a directory that this user can write to, or run chmod 700 {directory}"
