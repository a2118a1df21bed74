"""A replay memory with the larger pages of earlier releases is rewritten once; a crash meanwhile loses nothing."""

import fcntl
import logging
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.damage import KINDS, PAGE, REPLAY_PAGE, aside, run_and_kill

REPLAY: Final = KINDS["replay"]
EVERYTHING: Final = set(range(REPLAY.number))
PRELUDE: Final = """
    import os, resource, signal, sqlite3, sys
    from pathlib import Path
    from idlib.storage import connected_file
    from idlib.storage.replay import ReplayMemory
    """


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with a file as earlier releases wrote it."""
    with monkeypatch.context() as earlier:
        earlier.setattr(ReplayMemory, "_page_bytes", PAGE)
        REPLAY.fill(tmp_path)
    assert page_size(tmp_path) == PAGE
    return tmp_path


def page_size(directory: Path) -> int:
    return int.from_bytes(REPLAY.path(directory).read_bytes()[16:18])


def run(directory: Path, program: str) -> subprocess.CompletedProcess[str]:
    text = textwrap.dedent(PRELUDE) + textwrap.dedent(program).replace("DIRECTORY", repr(str(directory)))
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


def test_a_file_with_larger_pages_is_rewritten_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = REPLAY.path(directory)
    assert REPLAY.read(directory) == EVERYTHING
    assert page_size(directory) == REPLAY_PAGE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in directory.iterdir()) == [path.name, f"{path.name}.lock"]
    line = f"Rewriting '{path}' in smaller pages: 512 bytes instead of 4096"
    assert [record.getMessage() for record in caplog.records] == [line]
    inode = path.stat().st_ino
    assert REPLAY.read(directory) == EVERYTHING
    assert path.stat().st_ino == inode
    with ReplayMemory(directory) as store:
        assert store.get_fact("client_id") == "c" * 32


def test_what_a_killed_process_left_in_the_log_is_in_the_rewritten_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    groups = "[store.remember([Printed(entry(50 * g + n), 'example', b'k') for n in range(50)], NOW) for g in range(8)]"
    run_and_kill(tmp_path, f"ReplayMemory._page_bytes = {PAGE}; store = ReplayMemory", groups)
    assert REPLAY.read(tmp_path) == set(range(400))
    assert page_size(tmp_path) == REPLAY_PAGE
    assert aside(REPLAY.path(tmp_path)) == []
    assert "damaged" not in caplog.text


def test_the_rewritten_file_is_held_against_every_release(directory: Path) -> None:
    with ReplayMemory(directory):
        assert page_size(directory) == REPLAY_PAGE
        with REPLAY.path(directory).open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "is in use by another process" in run(directory, "ReplayMemory(Path(DIRECTORY))").stderr


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_kill_between_the_steps_of_rewriting_loses_nothing(place: str, directory: Path) -> None:
    killed = 0
    while True:
        copy = directory.with_name(f"{directory.name} {killed}")
        shutil.copytree(directory, copy)
        done = run(
            copy,
            f"""
            calls = 0

            def killing(function):
                def call(*args, **kwargs):
                    global calls
                    calls += 1
                    is_last = calls == {killed + 1}
                    if is_last and {place == "before"}:
                        os.kill(os.getpid(), signal.SIGKILL)
                    try:
                        return function(*args, **kwargs)
                    finally:
                        if is_last:
                            os.kill(os.getpid(), signal.SIGKILL)
                return call

            connected_file.make_durable = killing(connected_file.make_durable)
            Path.rename = killing(Path.rename)
            Path.unlink = killing(Path.unlink)
            os.open = killing(os.open)
            ReplayMemory._disconnect = killing(ReplayMemory._disconnect)
            ReplayMemory(Path(DIRECTORY))
            """,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        assert REPLAY.read(copy) == EVERYTHING
        assert page_size(copy) == REPLAY_PAGE
        path = REPLAY.path(copy)
        assert sorted(one.name for one in copy.iterdir()) == [path.name, f"{path.name}.lock"]
    assert killed > 8


@pytest.mark.parametrize("steps", [1, 10, 40, 80])
def test_a_kill_while_the_new_file_is_written_loses_nothing(steps: int, directory: Path) -> None:
    path = REPLAY.path(directory)
    done = run(
        directory,
        f"""
        left = {steps}

        def step():
            global left
            if Path(DIRECTORY, "replay.sqlite3.salvaged").exists():
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return 0

        connect = sqlite3.connect

        def connect_and_count(*args, **kwargs):
            connection = connect(*args, **kwargs)
            connection.set_progress_handler(step, 100)
            return connection

        sqlite3.connect = connect_and_count
        ReplayMemory(Path(DIRECTORY))
        """,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert page_size(directory) == PAGE
    assert path.with_name(f"{path.name}.salvaged").exists()
    assert REPLAY.read(directory) == EVERYTHING
    assert page_size(directory) == REPLAY_PAGE
    assert aside(path) == []
    assert not path.with_name(f"{path.name}.salvaged").exists()


def test_without_space_for_a_new_file_the_old_one_is_used(directory: Path) -> None:
    path = REPLAY.path(directory)
    assert path.stat().st_size > 60_000
    done = run(
        directory,
        """
        import logging
        logging.basicConfig(level=logging.INFO)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        with ReplayMemory(Path(DIRECTORY)) as store:
            print(store.get_fact("client_id"))
        """,
    )
    assert done.stdout == "c" * 32 + "\n", done.stderr
    assert "WARNING:idlib.storage.database:The size of its pages stays: " in done.stderr
    assert page_size(directory) == PAGE
    assert not path.with_name(f"{path.name}.salvaged").exists()
    assert REPLAY.read(directory) == EVERYTHING
    assert page_size(directory) == REPLAY_PAGE


def test_a_damaged_file_with_larger_pages_and_no_header_loses_no_rows(directory: Path) -> None:
    with REPLAY.path(directory).open("r+b") as file:
        file.write(bytes(100))
    assert REPLAY.read(directory) == EVERYTHING
    assert page_size(directory) == REPLAY_PAGE
    assert len(aside(REPLAY.path(directory))) == 1


@pytest.mark.parametrize("begin", [0, 12, 24])
def test_garbage_in_the_header_of_a_log_with_larger_pages_loses_no_row(begin: int, tmp_path: Path) -> None:
    groups = "[store.remember([Printed(entry(50 * g + n), 'example', b'k') for n in range(50)], NOW) for g in range(8)]"
    run_and_kill(tmp_path, f"ReplayMemory._page_bytes = {PAGE}; store = ReplayMemory", groups)
    path = REPLAY.path(tmp_path)
    with path.with_name(f"{path.name}-wal").open("r+b") as log:
        log.seek(begin)
        log.write(b"garbage!")
    assert REPLAY.read(tmp_path) == set(range(400))
    assert len(aside(path)) == 1


def test_a_file_that_another_program_reads_is_used_as_it_is(directory: Path) -> None:
    with closing(sqlite3.connect(REPLAY.path(directory))) as other:
        assert other.execute("SELECT count(*) FROM unbound").fetchone() == (400,)
        done = run(directory, "print(ReplayMemory(Path(DIRECTORY)).get_fact('client_id'))")
        assert done.stdout == "c" * 32 + "\n", done.stderr
        assert page_size(directory) == PAGE
    assert REPLAY.read(directory) == EVERYTHING
    assert page_size(directory) == REPLAY_PAGE
    assert aside(REPLAY.path(directory)) == []
