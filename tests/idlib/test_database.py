"""A DATA_PATH that this user may not use: told in one line, with what mends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from idlib.database import Database
from idlib.errors import StoreError
from idlib.outbox import FILE_NAME as OUTBOX
from idlib.store import FILE_NAME as STORE

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
    """Return what a user other than root is told who opens an `Outbox` or a `Store` in the directory `data` there."""
    program = (
        "import os, sys; from pathlib import Path; from idlib.errors import StoreError\n"
        "from idlib.outbox import Outbox; from idlib.store import Store\n"
        "if os.geteuid() == 0: os.setuid(1001)\n"
        f"try: {kind}(Path('data'))\n"
        "except StoreError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize(("kind", "name"), [("Outbox", OUTBOX), ("Store", STORE)])
def test_a_directory_of_another_user_is_told_with_the_command_that_mends_it(kind: str, name: str, place: Path) -> None:
    (place / "data").mkdir(mode=0o500)
    assert told(place, kind) == (
        f"'data/{name}' cannot be used: Permission denied;"
        f" set DATA_PATH to a directory that this user may write, or give it this one: {MEND}"
    )


@pytest.mark.parametrize(("kind", "name"), [("Outbox", OUTBOX), ("Store", STORE)])
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
    assert told(place, "Store") == (
        f"'data/{STORE}' cannot be used: Permission denied; set DATA_PATH to a directory that can be written"
    )


def test_a_file_that_is_no_database_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database" * 1000)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError):
        Database(tmp_path / "file", "CREATE TABLE IF NOT EXISTS one (a)")
    assert len(os.listdir("/proc/self/fd")) == before
