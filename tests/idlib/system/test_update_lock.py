import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from idlib.system import update_lock

NOBODY = 65534


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "updates.lock"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_lock, "PATIENCE_SECONDS", 0.0)


def leave_behind(lock: Path) -> None:
    """Kill a process that holds the lock."""
    script = f"""
import os, signal
from pathlib import Path
from idlib.system import update_lock
with update_lock.held(Path({str(lock)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert lock.exists()


def pretend_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


def test_the_lock_exists_for_the_supervisor_and_the_host_while_it_is_held(lock: Path) -> None:
    with update_lock.held(lock), lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not lock.exists()


def test_the_lock_is_removed_after_an_error(lock: Path) -> None:
    with pytest.raises(KeyError), update_lock.held(lock):
        raise KeyError
    assert not lock.exists()


def test_nothing_is_locked_without_balena(tmp_path: Path) -> None:
    path = tmp_path / "balena" / "updates.lock"
    with update_lock.held(path):
        assert not path.exists()
    update_lock.remove_leftover(path)


def test_the_lock_of_a_killed_writer_is_taken_over(lock: Path) -> None:
    leave_behind(lock)
    with update_lock.held(lock):
        assert lock.exists()
    assert not lock.exists()


def test_the_lock_of_a_killed_writer_is_removed(lock: Path) -> None:
    leave_behind(lock)
    update_lock.remove_leftover(lock)
    assert not lock.exists()


def test_a_lock_of_the_user_is_kept_and_not_waited_for(lock: Path) -> None:
    lock.touch()
    with update_lock.held(lock):
        pass
    update_lock.remove_leftover(lock)
    assert lock.exists()


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_the_supervisor_does_not_release_is_kept(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.touch()
    pretend_of_another_user(monkeypatch)
    with update_lock.held(lock):
        pass
    assert lock.exists()


def test_a_lock_of_the_supervisor_is_waited_for(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock.touch()
    pretend_of_another_user(monkeypatch)
    began, entered = threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        with update_lock.held(lock):
            entered.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert began.wait(10)
    assert not entered.is_set()
    lock.unlink()
    writer.join()
    assert entered.is_set()
    assert not lock.exists()


@pytest.mark.parametrize("blocked", ["directory", "dangling link"])
def test_another_file_in_place_of_the_lock_does_not_stop_a_writer(lock: Path, blocked: str) -> None:
    if blocked == "directory":
        lock.mkdir()
    else:
        lock.symlink_to(lock.parent / "nowhere")
    with update_lock.held(lock):
        pass
    update_lock.remove_leftover(lock)
    assert os.path.lexists(lock)


def test_a_named_pipe_in_place_of_the_lock_does_not_block(lock: Path) -> None:
    os.mkfifo(lock)
    script = f"""
from pathlib import Path
from idlib.system import update_lock
with update_lock.held(Path({str(lock)!r})):
    print("written")
update_lock.remove_leftover(Path({str(lock)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", script], check=True, timeout=20, capture_output=True)
    assert ended.stdout == b"written\n"
    assert lock.is_fifo()


@pytest.mark.usefixtures("impatient")
def test_only_a_regular_file_of_this_user_counts_as_a_leftover(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_behind(lock)
    link = lock.with_name("link")
    link.symlink_to(lock)
    update_lock.remove_leftover(link)
    assert link.is_symlink()
    pretend_of_another_user(monkeypatch)
    with update_lock.held(lock):
        pass
    update_lock.remove_leftover(lock)
    assert lock.exists()
