import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage import Printed, ReplayEntry, drop_leftovers
from idlib.storage.file_errors import DamagedError
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import FILE_NAME, WaitingMessages
from tests.idlib.storage.waiting import CASES, Case, message, numbers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_each_engine(case: Case, tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        case(store)


def test_messages_stay_deferred_after_a_restart_until_they_are_removed(tmp_path: Path) -> None:
    first, second = message(3, "first"), replace(message(7, "sécond", None), is_asked_again=True, is_reserved=True)
    with WaitingMessages(tmp_path) as store:
        store.change([first, second], ())
    with WaitingMessages(tmp_path) as store:
        assert store.read([7, 3]) == (second, first)
        assert list(store.new_numbers(1)) == [8]
        store.change((), [3])
    with WaitingMessages(tmp_path) as store:
        assert numbers(store) == [7]


def test_the_kind_of_key_of_a_message_is_removed_with_it(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([replace(message(1), is_sealed_to_epoch=True)], ())
        store.change([], [1])
        assert store._connection.execute("SELECT count(*) FROM sealed_to_epoch").fetchone() == (0,)


def test_a_number_that_a_repair_has_left_says_nothing_about_a_new_message(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store._connection.execute("INSERT INTO sealed_to_epoch VALUES (1)")
        store.change([message(1)], ())
        assert store.read([1]) == (message(1),)


def test_the_kind_of_key_survives_a_repair(tmp_path: Path) -> None:
    messages = [replace(message(number, "x" * 900), is_sealed_to_epoch=number % 2 == 1) for number in range(1, 100)]
    with WaitingMessages(tmp_path) as store:
        store.change(messages, ())
        store.repair(DamagedError("made in a test"))
        assert store.read(range(1, 100)) == tuple(messages)


def test_a_file_of_version_1_is_used_and_its_messages_were_encrypted_to_the_identity_key(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([message(1)], ())
        store._connection.executescript("DROP TABLE sealed_to_epoch; PRAGMA user_version = 1")
    with WaitingMessages(tmp_path) as store:
        assert store.read([1]) == (message(1),)
        second = replace(message(2), is_sealed_to_epoch=True)
        store.change([second], ())
        assert store.read([1, 2]) == (message(1), second)


def contents(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


@pytest.mark.parametrize("size", [20, 5000, 300_000])
def test_no_file_has_any_part_of_a_removed_text(size: int, tmp_path: Path) -> None:
    secret, other = "secret-of-alice " * (size // 16), "another that stays " * (size // 16)
    with WaitingMessages(tmp_path) as store:
        store.change([message(1, secret), message(2, other), message(3, secret)], ())
        assert b"secret-of-alice" in contents(tmp_path)
        _remove(store, [1])
        _remove(store, [3])
        assert b"secret-of-alice" not in contents(tmp_path)
        assert store.read([2])[0].signed == other
        _remove(store, [2])
        assert b"another that stays" not in contents(tmp_path)
        assert sum(path.stat().st_size for path in tmp_path.glob(f"{FILE_NAME}*") if "shm" not in path.name) < 300_000


def _remove(store: WaitingMessages, gone: list[int]) -> None:
    store.change((), gone)
    store.wipe()
    time.sleep(1.01)
    store.wipe()


def test_the_log_is_not_emptied_after_each_of_many_removals(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([message(number, "x" * 500) for number in range(1, 301)], ())
        begun = time.monotonic()
        emptied = 0
        for number in range(1, 301):
            store.change((), [number])
            emptied += (tmp_path / f"{FILE_NAME}-wal").stat().st_size == 0
        assert emptied <= time.monotonic() - begun + 2


def test_no_file_has_any_part_of_a_removed_text_after_closing_at_once(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([message(1, "secret-of-alice"), message(2, "another")], ())
        store.change((), [1])
        store.change((), [2])
    assert b"secret" not in contents(tmp_path)
    assert b"another" not in contents(tmp_path)


def test_a_text_that_a_killed_process_left_in_the_log_is_wiped_at_the_next_start(tmp_path: Path) -> None:
    _run_and_kill(
        tmp_path,
        "store.change([message(1, 'secret-of-alice'), message(2, 'another')], ()); store.change((), [1])",
        "store._wiped_at = time.monotonic()",
    )
    assert b"secret-of-alice" in contents(tmp_path)
    with WaitingMessages(tmp_path) as store:
        assert b"secret-of-alice" not in contents(tmp_path)
        assert store.read([2])[0].signed == "another"


def test_a_transaction_survives_kill_9(tmp_path: Path) -> None:
    _run_and_kill(tmp_path, "store.change([message(number) for number in range(1, 33)], ())")
    with WaitingMessages(tmp_path) as store:
        assert numbers(store) == list(range(1, 33))


def _run_and_kill(directory: Path, statements: str, before: str = "") -> None:
    program = textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from idlib.storage.waiting import WaitingMessages
        from tests.idlib.storage.waiting import message
        store = WaitingMessages(Path({str(directory)!r}))
        {before}
        {statements}
        print("changed", flush=True)
        os.kill(os.getpid(), {signal.SIGKILL})
        """)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "changed\n"), killed.stderr


def test_a_full_disk_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([message(1)], ())
        store._connection.execute("PRAGMA max_page_count = 10")
        with pytest.raises(StoreError, match="cannot be read or written"):
            store.change([message(2, "x" * 100_000)], [1])
        assert numbers(store) == [1]


def test_messages_printed_before_a_crash_are_dropped_at_the_start(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as replay, WaitingMessages(tmp_path) as waiting:
        waiting.change([message(number, issued_at=None if number % 2 else 1000) for number in range(1, 1201)], ())
        gone = [*range(1, 600), 1200]
        printed = [message(number, issued_at=None if number % 2 else 1000) for number in gone]
        entries = [ReplayEntry(one.sender, one.identifier, one.issued_at) for one in printed]
        replay.remember([Printed(entry, "example", b"key") for entry in entries], 1000)
        assert drop_leftovers(replay, waiting) == 600
        assert numbers(waiting) == list(range(600, 1200))
        assert drop_leftovers(replay, waiting) == 0


def test_an_impossible_message_is_rejected() -> None:
    with pytest.raises(ValueError, match="number 0"):
        replace(message(1), number=0)
    with pytest.raises(ValueError, match="3 bytes"):
        replace(message(1), identifier=b"123")
