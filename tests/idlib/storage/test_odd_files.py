"""Paths that are not regular files, and files that others lock: a one-line error, and no call waits forever."""

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage import lock_file
from idlib.storage.outbox import Outbox
from idlib.storage.watching import FILE_NAME as WATCH
from idlib.storage.watching import is_watched, watching
from tests.idlib.storage.damage import OPEN, within_seconds


@pytest.fixture(autouse=True)
def _waits_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "LOCK_SECONDS", 0.2)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


@pytest.mark.parametrize(
    ("make", "said"), [(make_pipe, "a named pipe"), (make_directory, "a directory"), (make_socket, "a socket")]
)
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal", ".lock"])
@pytest.mark.parametrize("name", list(OPEN))
def test_a_path_that_is_not_a_regular_file_is_a_one_line_error(
    name: str, end: str, make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    if end:
        OPEN[name](tmp_path).close()
    path = tmp_path / f"{name}.sqlite3{end}"
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(StoreError) as raised:
        within_seconds(lambda: OPEN[name](tmp_path))
    assert str(raised.value) == (
        f"'{path}' cannot be used: it is {said}, not a regular file;"
        " move it away, or set DATA_PATH to another directory"
    )
    path.rmdir() if path.is_dir() else path.unlink()
    OPEN[name](tmp_path).close()


@pytest.mark.parametrize("make", [make_pipe, make_directory, make_socket])
def test_a_lock_file_that_is_not_a_regular_file_is_not_watched(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / WATCH)
    within_seconds(lambda: is_watched(tmp_path))
    assert not is_watched(tmp_path)
    with pytest.raises(StoreError, match=r"outbox.lock' cannot be used: it is .*, not a regular file"):
        within_seconds(lambda: watching(tmp_path).__enter__())


@pytest.mark.parametrize("name", [WATCH, "outbox.sqlite3.lock"])
def test_a_lock_file_that_is_a_symbolic_link_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(tmp_path / "made")

    def use() -> None:
        with watching(tmp_path / "data"):
            Outbox(tmp_path / "data")

    with pytest.raises(StoreError, match="it is a symbolic link, not a regular file"):
        use()
    assert not (tmp_path / "made").exists()


def test_a_lock_that_another_process_never_releases_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / WATCH).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"outbox.lock' is locked by another process; stop that process"):
            within_seconds(lambda: watching(tmp_path).__enter__())


@pytest.mark.parametrize("name", list(OPEN))
def test_a_lock_on_the_directory_does_not_block_a_store(name: str, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        within_seconds(lambda: OPEN[name](tmp_path).close())
    finally:
        os.close(descriptor)
    assert stat.S_IMODE((tmp_path / f"{name}.sqlite3.lock").stat().st_mode) == 0o600
