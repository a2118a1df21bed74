"""A file of a newer release is not repaired: that would lose the parts that this release does not know."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from idlib.errors import StoreError
from tests.idlib.storage.damage import KINDS, OPEN, WRITE, aside, run_and_kill


@pytest.mark.parametrize("name", list(OPEN))
@pytest.mark.parametrize("place", ["the log", "the file"])
def test_a_damaged_file_of_a_newer_release_is_rejected_unchanged(name: str, place: str, tmp_path: Path) -> None:
    newer = "store._connection.execute('PRAGMA user_version = 99')"
    kind, statements = WRITE[name]
    run_and_kill(tmp_path, kind, f"{statements}; {newer}; {statements.replace('range(', 'range(100, 100 + ', 1)}")
    path = KINDS[name].path(tmp_path)
    log = path.with_name(f"{path.name}-wal")
    if place == "the file":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        contents = bytearray(path.read_bytes())
        contents[-4096:] = b"\xff" * 4096
        path.write_bytes(contents)
        log.touch()
    else:
        with log.open("r+b") as file:
            file.seek(200)
            file.write(b"\xff")
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(StoreError, match="was written by a newer version of this software; install that version"):
        OPEN[name](tmp_path)
    assert aside(path) == []
    if place == "the log":
        assert (path.read_bytes(), log.read_bytes()) == before
