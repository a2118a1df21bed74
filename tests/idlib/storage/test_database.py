"""A DATA_PATH that this user may not use: told in one line, with what mends it."""

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage.database import Database
from idlib.storage.outbox import FILE_NAME as OUTBOX
from idlib.storage.outbox import Outbox
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
    """Return a directory that every user may enter and only its owner may change."""
    tmp_path.chmod(0o755)
    return tmp_path


def told(where: Path, kind: str) -> str:
    """Return what a user other than root is told who opens one of the stores in the directory `data` there."""
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
def test_a_directory_of_another_user_is_told_with_the_command_that_mends_it(kind: str, name: str, place: Path) -> None:
    (place / "data").mkdir(mode=0o500)
    assert told(place, kind) == (
        f"'data/{name}' cannot be used: Permission denied;"
        f" set DATA_PATH to a directory that this user may write, or give it this one: {MEND}"
    )


@pytest.mark.parametrize(("kind", "name"), STORES)
def test_a_file_of_another_user_is_told_likewise(kind: str, name: str, place: Path) -> None:
    (place / "data").mkdir()
    (place / "data").chmod(0o777)
    for file in (name, f"{name}-wal"):
        (place / "data" / file).touch(0o400)
        said = told(place, kind)
        assert said.startswith(f"'data/{name}' cannot be ")
        assert said.endswith(MEND)
        (place / "data" / file).chmod(0o666)


def test_where_no_directory_can_be_made_nobody_is_told_to_give_away_what_is_above_it(place: Path) -> None:
    place.chmod(0o555)
    assert told(place, "ReplayMemory") == (
        f"'data/{REPLAY}' cannot be used: Permission denied; set DATA_PATH to a directory that can be written"
    )


@pytest.mark.parametrize(("kind", "name"), [(Outbox, OUTBOX), (ReplayMemory, REPLAY), (WaitingMessages, WAITING)])
def test_a_file_of_a_newer_version_is_refused_in_one_line(
    kind: Callable[[Path], Database], name: str, tmp_path: Path
) -> None:
    kind(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError) as told:
        kind(tmp_path)
    assert str(told.value) == (
        f"{tmp_path / name} was written by a newer version of this software;"
        " install that version again, or set DATA_PATH to another directory"
    )


@pytest.mark.parametrize("kind", [Outbox, ReplayMemory, WaitingMessages])
def test_the_files_are_made_for_their_owner_alone(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with kind(tmp_path / "new" / "data"):
        assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new" / "data").iterdir()} == {0o600}


@pytest.mark.parametrize("kind", [ReplayMemory, WaitingMessages])
def test_a_second_process_is_told_that_the_file_is_in_use(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with kind(tmp_path), pytest.raises(StoreError, match="in use by another process"):
        kind(tmp_path)
    kind(tmp_path).close()


@pytest.mark.parametrize("kind", [Outbox, ReplayMemory, WaitingMessages])
def test_no_descriptor_leaks_into_other_programs(kind: Callable[[Path], Database], tmp_path: Path) -> None:
    with kind(tmp_path):
        numbers = [int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
        ours = [one for one in numbers if os.readlink(f"/proc/self/fd/{one}").startswith(str(tmp_path))]
        assert ours
        assert not any(os.get_inheritable(one) for one in ours)
