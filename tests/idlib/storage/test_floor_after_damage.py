"""Which messages are refused because a damaged replay memory may have forgotten them, and which are not."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from idlib.storage import Printed, Remembered, ReplayEntry, rules
from idlib.storage.last_write import END, forget, last_write, note
from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.damage import NAMES, NOW, PAGE, aside, number_of_pages, overwrite

NAME: Final = "replay.sqlite3"
HOUR: Final = 3600
DAY: Final = 24 * HOUR


def entry(number: int, issued_at: int) -> ReplayEntry:
    return ReplayEntry(NAMES[number % len(NAMES)], number.to_bytes(16), issued_at)


def fill(directory: Path, issued_at: int, recorded: int) -> Path:
    with ReplayMemory(directory) as store:
        store.note_time(recorded)
        for begin in range(0, 1000, 100):
            store.remember([Printed(entry(n, issued_at), "example", b"key") for n in range(begin, begin + 100)], NOW)
    return directory / NAME


def floor(store: ReplayMemory) -> int:
    return store._senders(store._connection).floor


def damage(path: Path, written: float) -> None:
    """Damage the entries of a file and set its last write; only reading the entries reveals the damage."""
    overwrite(path, [number_of_pages(path) // 2])
    os.utime(path, (written, written))


def damage_plainly(path: Path, written: float) -> None:
    """Damage a file and set its last write; opening the file reveals the damage."""
    damage(path, written)
    overwrite(path, [1], bytes(100))
    os.utime(path, (written, written))


@pytest.mark.parametrize(
    ("issued_at", "recorded", "written", "now", "latest"),
    [
        # The time of the file counts if it is the latest.
        (1000, 1000, 5000, 9000, 5300),
        (5400, 1000, 5000, 9000, 5400),
        # A file restored from a copy, or written while the clock was not set.
        (5000, 1000, 300, 9000, 5000),
        (1000, 5000, 300, 9000, 5300),
        (-1, 0, None, 9000, 300),
        (5000, 0, None, 9000, 5000),
        # A file time in the future: the clock that set it was wrong.
        (1000, 2000, 99_999, 9000, 9300),
        (1000, 9500, 99_999, 9000, 9800),
        (9600, 9500, 99_999, 9000, 9900),
    ],
)
def test_latest_possible_issue(issued_at: int, recorded: int, written: int | None, now: int, latest: int) -> None:
    assert rules.latest_possible_issue(issued_at, recorded, written, now) == latest


def test_the_issue_times_of_kept_entries_take_precedence_over_the_time_of_the_file(tmp_path: Path) -> None:
    path = fill(tmp_path, NOW, 1000)
    damage_plainly(path, NOW - DAY)
    with ReplayMemory(tmp_path) as store:
        found = {store.verdict(entry(number, NOW)) for number in range(1000)}
        assert found == {Remembered.PRINTED, Remembered.MAYBE_FORGOTTEN}
        assert floor(store) == NOW
        assert store.verdict(entry(5000, NOW + 1)) is Remembered.NEW


def test_the_recorded_time_takes_precedence_over_the_time_of_the_file(tmp_path: Path) -> None:
    path = fill(tmp_path, NOW - DAY, NOW)
    damage_plainly(path, NOW - DAY)
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry(5000, NOW)) is Remembered.MAYBE_FORGOTTEN
        assert store.verdict(entry(5000, NOW + 301)) is Remembered.NEW


def test_a_file_time_in_the_future_does_not_refuse_messages_for_years(tmp_path: Path) -> None:
    path = fill(tmp_path, NOW, NOW)
    damage_plainly(path, time.time() + 20 * 365 * DAY)
    before = int(time.time())
    with ReplayMemory(tmp_path) as store:
        assert before + 300 <= floor(store) <= time.time() + 300
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry(5000, before + HOUR)) is Remembered.NEW


def test_a_repair_of_an_open_file_refuses_no_new_message(tmp_path: Path) -> None:
    path = fill(tmp_path, NOW - DAY, NOW - DAY)
    os.utime(path, (NOW - DAY, NOW - DAY))
    with ReplayMemory(tmp_path) as store:
        store.note_time(NOW)
        store._connection.execute("DROP TABLE unbound")
        assert store.verdict(entry(5000, NOW - HOUR)) is Remembered.NEW
        store.verdict(ReplayEntry(NAMES[0], bytes(16), None))
        assert len(aside(path)) == 1
        assert floor(store) == NOW - DAY + 300


@pytest.mark.parametrize("number", ["9" * 30, "-2", str(1 << 60)])
def test_a_damaged_fact_that_is_not_a_possible_time_is_not_kept(number: str, tmp_path: Path) -> None:
    path = fill(tmp_path, NOW, NOW)
    with ReplayMemory(tmp_path) as store:
        store.set_fact("floor", number)
        store._connection.execute("INSERT INTO bound VALUES (?, 0, ?, 7)", (1 << 50, b"f" * 16))
    damage_plainly(path, NOW)
    with ReplayMemory(tmp_path) as store:
        assert floor(store) == NOW + 300


PROGRAM: Final = """
    import os, sys
    from pathlib import Path
    from idlib.storage import ReplayEntry, database, salvage
    from idlib.storage.replay import ReplayMemory
    from tests.idlib.storage.test_floor_after_damage import *

    def die(*_):
        os.kill(os.getpid(), {signal})

    {patch}
    store = ReplayMemory(Path({directory!r}))
    store.set_fact("session", "kept")
    for number in range(1000):
        store.verdict(entry(number, NOW))
    """
# When the process is killed: before it reads the file, or while or after it creates the new one.
MOMENTS: Final = {
    "after connecting": "ReplayMemory._read_latest_time = die",
    "while the rows are copied": "salvage.copy_rows = die",
    "before the damaged file is moved": "salvage.replace = die",
    "after it is moved": "salvage._move_aside, move = (lambda *paths: (move(*paths), die())), salvage._move_aside",
    "before the new file is used": "ReplayMemory._connect_again = die",
}


@pytest.mark.parametrize("moment", list(MOMENTS))
@pytest.mark.parametrize("damage_it", [damage, damage_plainly])
def test_a_killed_repair_refuses_no_more_messages_than_a_completed_one(
    moment: str, damage_it: Callable[[Path, float], None], tmp_path: Path
) -> None:
    path = fill(tmp_path, NOW, NOW)
    written = NOW + DAY
    damage_it(path, written)
    program = textwrap.dedent(PROGRAM).format(signal=signal.SIGKILL, patch=MOMENTS[moment], directory=str(tmp_path))
    ends = [subprocess.run([sys.executable, "-c", program], check=False).returncode for _ in range(2)]
    assert ends[0] == -signal.SIGKILL
    assert ends[1] in {0, -signal.SIGKILL}
    with ReplayMemory(tmp_path) as store:
        found = {store.verdict(entry(number, NOW)) for number in range(1000)}
        assert found == {Remembered.PRINTED, Remembered.MAYBE_FORGOTTEN}
        assert floor(store) == written + 300
    assert not path.with_name(f"{path.name}{END}").exists()


def test_the_note_of_the_last_write_takes_precedence_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert last_write(path) is None
    note(path, 77)
    assert last_write(path) is None, "there is no file"
    path.write_bytes(b"x" * PAGE)
    os.utime(path, (500, 500))
    assert last_write(path) == 77
    forget(path)
    forget(path)
    assert last_write(path) == 500
    log = path.with_name("file-wal")
    log.touch()
    assert last_write(path) == 500
    log.write_bytes(b"x")
    os.utime(log, (600, 600))
    assert last_write(path) == 600


def test_a_truncated_note_and_one_that_cannot_be_written_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (500, 500))
    path.with_name(f"file{END}").touch()
    assert last_write(path) == 500
    note(tmp_path / "absent" / "file", 77)
    path.with_name(f"file{END}").unlink()
    path.with_name(f"file{END}").mkdir()
    note(path, 77)
    assert last_write(path) == 500
