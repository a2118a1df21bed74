"""Copying the log into the file while other threads use the store."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage import replay
from idlib.storage.log_copying import LogCopier
from idlib.storage.replay import FILE_NAME, ReplayMemory
from tests.idlib.storage.damage import within_seconds
from tests.idlib.storage.replaying import NEW, NOW, PRINTED, entry, remember

GROUP = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


def fill(store: ReplayMemory, begin: int, end: int) -> None:
    for first in range(begin, end, GROUP):
        remember(store, [entry(number) for number in range(first, first + GROUP)])


def assert_printed(store: ReplayMemory, number: int) -> None:
    assert {store.verdict(entry(one)) for one in range(number)} == {PRINTED}
    assert store.verdict(entry(number)) is NEW


@contextmanager
def copying(store: ReplayMemory) -> Iterator[list[BaseException]]:
    """Copy the log again and again in another thread, which stops at the first error."""
    stopping = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not stopping.is_set():
                store._copier.copy()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        stopping.set()
        thread.join()


def test_a_short_log_is_not_copied(store: ReplayMemory, path: Path) -> None:
    fill(store, 0, 2000)
    size = path.stat().st_size
    store.copy_log()
    assert path.stat().st_size == size


def test_a_long_log_is_copied_and_then_written_from_its_beginning(store: ReplayMemory, path: Path) -> None:
    log = path.with_name(f"{FILE_NAME}-wal")
    for number in range(4):
        fill(store, number * 10_000, (number + 1) * 10_000)
        store.copy_log()
    pages = int(store._connection.execute("PRAGMA page_count").fetchone()[0])
    assert path.stat().st_size == pages * 512
    longest = log.stat().st_size
    for number in range(4, 8):
        fill(store, number * 10_000, (number + 1) * 10_000)
        store.copy_log()
    assert log.stat().st_size < 1.5 * longest
    assert_printed(store, 80_000)


def test_forgetting_copies_the_log(store: ReplayMemory, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 0, 5000)
    monkeypatch.setattr(replay, "_COPIED_PAGES", 50)
    while store.tidy(NOW + 20 * 86400).more:
        pass
    assert path.stat().st_size > 100 * 1024


def test_a_log_that_is_never_copied_does_not_grow_without_limit(store: ReplayMemory, path: Path) -> None:
    store._connection.execute("PRAGMA synchronous = OFF")
    for number in range(30_000):
        remember(store, [entry(number)])
    assert path.with_name(f"{FILE_NAME}-wal").stat().st_size < 16e6


def test_a_copy_does_not_wait_for_the_lock_of_the_store(store: ReplayMemory, path: Path) -> None:
    fill(store, 0, 5000)
    size = path.stat().st_size
    with store._lock:
        within_seconds(store._copier.copy)
    assert path.stat().st_size > size


def test_a_copy_does_not_wait_for_a_transaction(store: ReplayMemory, path: Path) -> None:
    fill(store, 0, 5000)
    size = path.stat().st_size
    with store._transaction() as connection:
        connection.execute("UPDATE sender SET printed = 7")
        within_seconds(store._copier.copy)
    assert path.stat().st_size > size
    assert_printed(store, 5000)


def test_messages_are_remembered_and_forgotten_while_the_log_is_copied(tmp_path: Path, path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        with copying(store) as errors:
            fill(store, 0, 3000)
            assert_printed(store, 3000)
            later = NOW + 20 * 86400
            remember(store, [entry("new", later)], later)
            while store.tidy(later).more:
                assert store.verdict(entry("new", later)) is PRINTED
        assert errors == []
        assert store._connection.execute("SELECT count(*) FROM bound").fetchone() == (1,)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_closed_store_copies_nothing(tmp_path: Path) -> None:
    store = ReplayMemory(tmp_path)
    with copying(store) as errors:
        fill(store, 0, 1000)
        store.close()
    assert errors == []
    with pytest.raises(StoreError, match="is closed"):
        store.copy_log()


def test_a_repair_while_the_log_is_copied_keeps_the_rows(tmp_path: Path, path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        fill(store, 0, 1000)
        with copying(store) as errors:
            store._connection.execute(
                "UPDATE bound SET second = 'damaged' WHERE identifier = ?", (entry(7).identifier,)
            )
            store._connection.execute("UPDATE fact SET value = x'ff'")
            store._kept_senders = None
            fill(store, 1000, 1100)
        assert errors == []
    with ReplayMemory(tmp_path) as store:
        assert {store.verdict(entry(number)) for number in range(1100) if number != 7} == {PRINTED}


def test_the_copier_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        LogCopier().open(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("groups", [3, 20, 60])
def test_a_kill_while_the_log_is_copied_loses_no_remembered_message(groups: int, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tests.idlib.storage.test_log_copying import *
store = ReplayMemory(Path({str(tmp_path)!r}))
with copying(store):
    for number in range(1000):
        fill(store, number * GROUP, (number + 1) * GROUP)
        print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(groups):
            remembered = int(process.stdout.readline()) + 1
        process.send_signal(signal.SIGKILL)
    with ReplayMemory(tmp_path) as store:
        assert {store.verdict(entry(one)) for one in range(remembered * GROUP)} == {PRINTED}
