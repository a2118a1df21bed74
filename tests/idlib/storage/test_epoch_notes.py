"""What the outbox stores about epoch keys, and the upgrade of an outbox that has nothing about them."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from idlib.errors import StoreError
from idlib.storage import epoch_notes
from idlib.storage.outbox import FILE_NAME, BootTime, NewOutgoingMessage, Outbox, OutgoingMessage
from idlib.system.times import EARLIEST_CREDIBLE_TIME
from testbed.programs import ROOT
from tests.idlib.storage.damage import aside, overwrite

BOB: Final = "bob.example"
NOW: Final = 1_900_000_000
DAY: Final = 86_400
# What the release before epoch keys had written; the rest of its schema is the present one.
_DOWNGRADE: Final = """
DROP TABLE marked; DROP TABLE sealed_to_epoch; DROP TRIGGER outgoing_unsealed; PRAGMA user_version = 1
"""


def message(identifier: str, *, was_sealed_to_epoch: bool = False) -> NewOutgoingMessage:
    return NewOutgoingMessage(BOB, identifier, identifier, NOW, None, was_sealed_to_epoch=was_sealed_to_epoch)


def first(outbox: Outbox) -> OutgoingMessage:
    found = outbox.next_to(BOB, 0)
    assert found is not None
    return found


def seals(directory: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM sealed_to_epoch ORDER BY number")]


def old_outbox(directory: Path, messages: int) -> None:
    with Outbox(directory) as outbox:
        for number in range(messages):
            outbox.put(message(f"old {number}"), BootTime("this", 50.0))
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        connection.executescript(_DOWNGRADE)


def test_a_message_that_is_encrypted_to_an_epoch_key_is_known_after_a_restart(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("first"))
        outbox.put(message("second"))
        assert not first(outbox).was_sealed_to_epoch
        outbox.note_sealed_to_epoch(first(outbox).number)
        outbox.note_sealed_to_epoch(first(outbox).number)
    with Outbox(tmp_path) as outbox:
        assert first(outbox).was_sealed_to_epoch
        second = outbox.next_to(BOB, first(outbox).number)
        assert second is not None
        assert not second.was_sealed_to_epoch


def test_it_may_be_known_when_a_message_is_queued(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("first", was_sealed_to_epoch=True))
        assert first(outbox).was_sealed_to_epoch


def test_nothing_is_left_of_a_message_that_is_removed_or_has_expired(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("removed", was_sealed_to_epoch=True))
        outbox.remove(first(outbox).number)
        outbox.put(message("expired", was_sealed_to_epoch=True))
        assert outbox.forget_expired(NOW + DAY, DAY, DAY) == [("expired", BOB)]
    assert seals(tmp_path) == []


def test_a_mark_is_remembered_with_the_last_time_at_which_it_was_seen(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        assert outbox.marked_at(BOB) is None
        outbox.note_mark(BOB, NOW)
        outbox.note_mark(BOB, NOW + DAY)
        outbox.note_mark("alice.example", NOW)
    with Outbox(tmp_path) as outbox:
        assert outbox.marked_at(BOB) == NOW + DAY
        outbox.forget_mark(BOB)
        assert outbox.marked_at(BOB) is None
        assert outbox.marked_at("alice.example") == NOW


def test_a_time_that_cannot_be_right_is_not_taken_for_damage_later(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.note_mark(BOB, 0)
        assert outbox.marked_at(BOB) == EARLIEST_CREDIBLE_TIME
    assert aside(tmp_path / FILE_NAME) == []


def test_the_names_that_were_seen_marked_the_longest_time_ago_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_notes, "MAX_MARKED_NAMES", 3)
    with Outbox(tmp_path) as outbox:
        for number in range(3):
            outbox.note_mark(f"name-{number}.example", NOW + number)
        outbox.note_mark("name-0.example", NOW + 3)
        outbox.note_mark("name-3.example", NOW + 4)
        known = [outbox.marked_at(f"name-{number}.example") for number in range(4)]
    assert known == [NOW + 3, None, NOW + 2, NOW + 4]


def test_an_outbox_of_the_release_before_is_upgraded_and_that_release_rejects_it_then(tmp_path: Path) -> None:
    old_outbox(tmp_path, 2)
    with Outbox(tmp_path) as outbox:
        assert outbox.waiting().number == 2
        assert not first(outbox).was_sealed_to_epoch
        outbox.note_sealed_to_epoch(first(outbox).number)
        outbox.note_mark(BOB, NOW)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        connection.execute("PRAGMA user_version = 4")
    with pytest.raises(StoreError, match="was written by a newer version of this software"):
        Outbox(tmp_path)


_KILLED: Final = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from idlib.storage.outbox import Outbox

old, killed = Path(sys.argv[1]), Path(sys.argv[2])

def kill_at(number):
    left = [number]
    def trace(statement):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    connect = sqlite3.connect
    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(trace)
        return connection
    sqlite3.connect = traced

number, status = 0, -1
while status:
    number += 1
    shutil.copytree(old, killed / str(number))
    child = os.fork()
    if not child:
        kill_at(number)
        Outbox(killed / str(number)).close()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}, status
print(number)
"""


def test_an_upgrade_that_is_killed_at_any_statement_loses_nothing(tmp_path: Path) -> None:
    old, killed = tmp_path / "old", tmp_path / "killed"
    old_outbox(old, 20)
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(old), str(killed)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    kills = int(ended.stdout)
    # More than the statements of the upgrade.
    assert kills > 15
    for number in range(1, kills + 1):
        with Outbox(killed / str(number)) as outbox:
            texts, last = [], 0
            while (found := outbox.next_to(BOB, last)) is not None:
                texts.append(found.content)
                last = found.number
            assert texts == [f"old {number}" for number in range(20)]
            outbox.note_sealed_to_epoch(last)
            outbox.note_mark(BOB, NOW)
            assert outbox.marked_at(BOB) == NOW
        assert aside(killed / str(number) / FILE_NAME) == []


def test_marks_and_notes_survive_the_repair_of_a_damaged_file(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("sealed", was_sealed_to_epoch=True), BootTime("boot.example", 7.0))
        outbox.put(message("not sealed"), BootTime("boot.example", 1_950_000_000.0))
        outbox.note_mark("carol.example", NOW)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'outgoing_by_time'").fetchone()
    overwrite(tmp_path / FILE_NAME, [page])
    with Outbox(tmp_path) as outbox:
        outbox.put(message("new"))
        assert first(outbox).was_sealed_to_epoch
        second = outbox.next_to(BOB, first(outbox).number)
        assert second is not None
        assert not second.was_sealed_to_epoch
        assert outbox.marked_at("carol.example") == NOW
        # Nothing else in the file is taken for a mark.
        assert outbox.marked_at(BOB) is None
    assert len(aside(tmp_path / FILE_NAME)) == 1


@pytest.mark.parametrize("statement", ["UPDATE marked SET seen_at = 'never'", "UPDATE marked SET seen_at = 5"])
def test_an_impossible_time_of_a_mark_is_damage(statement: str, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("kept"))
        outbox.note_mark(BOB, NOW)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as connection:
        connection.execute(statement)
    with Outbox(tmp_path) as outbox:
        assert outbox.marked_at(BOB) is None
        assert first(outbox).content == "kept"
    assert len(aside(tmp_path / FILE_NAME)) == 1
