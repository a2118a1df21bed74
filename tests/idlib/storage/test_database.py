"""A store's file or directory that cannot be used: a one-line error with a hint, and no file stays open."""

import contextlib
import errno
import fcntl
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage.database import Database
from idlib.storage.file_errors import DamagedError
from idlib.storage.outbox import FILE_NAME as OUTBOX
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from idlib.storage.replay import FILE_NAME as REPLAY
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import FILE_NAME as WAITING
from idlib.storage.waiting import WaitingMessages

STORES = [("Outbox", OUTBOX), ("ReplayMemory", REPLAY), ("WaitingMessages", WAITING)]
STRANGER = 1001 if os.geteuid() == 0 else os.geteuid()
COMMAND = f"chown -R {STRANGER} data"
MEND = (
    f"as root run {COMMAND} (with Compose:"
    f" docker compose run --rm --user root --cap-add CHOWN --cap-add DAC_OVERRIDE messaging_sender {COMMAND})"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory that every user can enter and only its owner can change."""
    tmp_path.chmod(0o755)
    return tmp_path


def error_for(where: Path, kind: str) -> str:
    """Open one of the stores in the directory `data` there as a user other than root, and return the error."""
    program = (
        "import os, sys; from pathlib import Path; from idlib.errors import StoreError\n"
        "from idlib.storage.outbox import Outbox\n"
        "from idlib.storage.replay import ReplayMemory\n"
        "from idlib.storage.waiting import WaitingMessages\n"
        "if os.geteuid() == 0: os.setuid(1001)\n"
        f"try: {kind}(Path('data'))\n"
        "except StoreError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize(("kind", "name"), STORES)
def test_the_error_for_a_directory_of_another_user_has_the_command_that_gives_access(
    kind: str, name: str, place: Path
) -> None:
    (place / "data").mkdir(mode=0o500)
    assert error_for(place, kind) == (
        f"'data/{name}' cannot be used: Permission denied;"
        f" set DATA_PATH to a directory that this user can write to, or give this user access: {MEND}"
    )


@pytest.mark.parametrize(("kind", "name"), STORES)
def test_the_error_for_a_file_of_another_user_has_the_command_that_gives_access(
    kind: str, name: str, place: Path
) -> None:
    (place / "data").mkdir()
    (place / "data").chmod(0o777)
    for file in (name, f"{name}-wal"):
        (place / "data" / file).touch(0o400)
        said = error_for(place, kind)
        assert said.startswith(f"'data/{name}' cannot be ")
        assert said.endswith(MEND)
        (place / "data" / file).chmod(0o666)


def test_the_error_for_a_parent_directory_without_access_does_not_suggest_changing_its_owner(place: Path) -> None:
    place.chmod(0o555)
    assert error_for(place, "ReplayMemory") == (
        f"'data/{REPLAY}' cannot be used: Permission denied; set DATA_PATH to a directory that can be written"
    )


@pytest.mark.parametrize(
    ("kind", "name", "version"), [(Outbox, OUTBOX, 3), (ReplayMemory, REPLAY, 1), (WaitingMessages, WAITING, 2)]
)
def test_a_file_of_a_newer_version_is_a_one_line_error(
    kind: Callable[[Path], Database], name: str, version: int, tmp_path: Path
) -> None:
    kind(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
        connection.execute(f"PRAGMA user_version = {version + 1}")
    with pytest.raises(StoreError) as raised:
        kind(tmp_path)
    assert str(raised.value) == (
        f"'{tmp_path / name}' was written by a newer version of this software;"
        " install that version again, or set DATA_PATH to another directory"
    )


@pytest.mark.parametrize("kind", [Outbox, ReplayMemory, WaitingMessages])
def test_only_the_owner_can_read_and_write_the_files(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with kind(tmp_path / "new" / "data"):
        assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new" / "data").iterdir()} == {0o600}


@pytest.mark.parametrize("kind", [ReplayMemory, WaitingMessages])
def test_a_file_in_use_by_another_process_is_an_error(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with kind(tmp_path), pytest.raises(StoreError, match="in use by another process"):
        kind(tmp_path)
    kind(tmp_path).close()


def calls(store: Database) -> list[Callable[[], object]]:
    """Return a call of each method that uses the file."""
    match store:
        case Outbox():
            new = NewOutgoingMessage("bob.example", "identifier", "text", 1000, None)
            return [
                store.hold_for_delivery,
                lambda: store.put(new),
                store.recipients,
                lambda: store.next_to("bob.example", 0),
                store.waiting,
                lambda: store.remove(1),
                lambda: store.forget_expired(1000, 1, 1),
                lambda: store.correct_times(1, 2),
            ]
        case ReplayMemory():
            return [
                lambda: store.fact("name", "default"),
                lambda: store.get_fact("name"),
                lambda: store.set_fact("name", "value"),
                lambda: store.note_time(2000),
                lambda: store.standing("bob.example"),
                lambda: store.remember((), 1),
                lambda: store.tidy(1),
                lambda: store.raise_floor(1),
                lambda: store.repair(DamagedError("it is damaged")),
            ]
        case WaitingMessages():
            return [
                store.last_number,
                lambda: list(store.index()),
                lambda: store.read([1]),
                lambda: store.change((), [1]),
            ]
    raise AssertionError(store)


@pytest.mark.parametrize(("kind", "name"), [(Outbox, OUTBOX), (ReplayMemory, REPLAY), (WaitingMessages, WAITING)])
def test_a_closed_file_stays_closed(kind: Callable[[Path], Database], name: str, tmp_path: Path) -> None:
    store = kind(tmp_path)
    store.close()
    store.close()
    # It gets the descriptor number that the file had.
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        for call in calls(store):
            with pytest.raises(StoreError, match=re.escape(f"'{tmp_path / name}' is closed")):
                call()
        assert os.path.samestat(os.fstat(descriptor), tmp_path.stat())
    finally:
        os.close(descriptor)
    kind(tmp_path).close()


def open_files(directory: Path) -> list[str]:
    numbers = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    paths = [os.readlink(f"/proc/self/fd/{name}") for name in numbers]
    return [path for path in paths if path.startswith(str(directory))]


def open_to_deliver(directory: Path) -> None:
    Outbox(directory).hold_for_delivery()


@pytest.mark.parametrize("take", [open_to_deliver, ReplayMemory, WaitingMessages])
def test_a_file_system_without_locks_is_a_one_line_error_and_no_file_stays_open(
    take: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def without_locks(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_NB:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(StoreError, match=r"^'[^']*' cannot be locked: No locks available; "):
        take(tmp_path)
    assert open_files(tmp_path) == []


@pytest.mark.parametrize(("kind", "method"), [(ReplayMemory, "fact"), (WaitingMessages, "wipe")])
def test_no_file_stays_open_if_a_store_cannot_be_read_at_its_start(
    kind: Callable[[Path], Database], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(kind, method, fail)
        with pytest.raises(StoreError, match="the disk is broken"):
            kind(tmp_path)
    assert open_files(tmp_path) == []
    kind(tmp_path).close()


@pytest.mark.parametrize("kind", [Outbox, ReplayMemory, WaitingMessages])
def test_a_path_that_is_too_long_is_a_one_line_error(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="' cannot be used: File name too long; set DATA_PATH to "):
        kind(tmp_path / ("x" * 300))


@pytest.mark.parametrize("kind", [Outbox, ReplayMemory, WaitingMessages])
def test_no_descriptor_is_inherited_by_other_programs(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with kind(tmp_path):
        numbers = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
        ours = [one for one in numbers if os.readlink(f"/proc/self/fd/{one}").startswith(str(tmp_path))]
        assert ours
        assert not any(os.get_inheritable(one) for one in ours)
