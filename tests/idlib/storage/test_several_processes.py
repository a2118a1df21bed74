"""Several processes use one file: one at a time opens or repairs it, and a repair does not change which holds it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from idlib.errors import StoreError
from idlib.storage import lock_file
from idlib.storage.outbox import Outbox
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.damage import OPEN, aside, outgoing, short_message, within_seconds


@pytest.fixture(autouse=True)
def _waits_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "LOCK_SECONDS", 0.2)


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Act like a process that takes a long time to open or repair a file."""
    lock = lock_file.LockFile(path)
    try:
        with lock.replacing():
            yield
    finally:
        lock.close()


@pytest.mark.parametrize("name", list(OPEN))
def test_a_file_that_another_process_opens_for_too_long_is_an_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.sqlite3"
    with opening(path), pytest.raises(StoreError) as raised:
        within_seconds(lambda: OPEN[name](tmp_path))
    assert str(raised.value) == (
        f"'{path}' is being opened or repaired by another process; try again once that process has ended"
    )
    OPEN[name](tmp_path).close()


def test_nothing_is_written_to_an_outbox_while_another_process_repairs_it(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        with opening(tmp_path / "outbox.sqlite3"), pytest.raises(StoreError, match="is being opened or repaired"):
            outbox.put(outgoing(1))
        outbox.put(outgoing(2))
        assert outbox.waiting().number == 1


def test_several_processes_can_lock_a_file_for_writing_but_only_one_can_replace_or_hold_it(tmp_path: Path) -> None:
    first, second = lock_file.LockFile(tmp_path / "it"), lock_file.LockFile(tmp_path / "it")
    with first.writing(), second.writing(), pytest.raises(StoreError, match="is being opened"), second.replacing():
        pass
    with second.replacing():
        pass
    assert first.hold()
    assert not second.hold()
    first.close()
    assert second.hold()
    second.close()


OTHER: Final = """
import sys
from pathlib import Path
from idlib.errors import StoreError
from tests.idlib.storage.damage import OPEN, outgoing, within_seconds
try:
    store = OPEN[sys.argv[1]](Path(sys.argv[2]))
    if sys.argv[1] == "outbox":
        store.put(outgoing(77))
        if len(sys.argv) > 3:
            store.hold_for_delivery()
    store.close()
except StoreError as error:
    print(error)
"""


def other_process(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", OTHER, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["replay", "waiting"])
def test_a_second_receiver_does_not_repair_the_file_of_a_running_one(name: str, tmp_path: Path) -> None:
    with OPEN[name](tmp_path) as store:
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = tmp_path / f"{name}.sqlite3"
        with path.open("r+b") as file:
            file.write(bytes(16))
        said = other_process(name, str(tmp_path))
        assert said.startswith(f"'{path}' is in use by another process; stop the other receiver")
        assert aside(path) == []
        if isinstance(store, WaitingMessages):
            store.change([short_message(1)], ())
    with OPEN[name](tmp_path) as store:
        if isinstance(store, WaitingMessages):
            assert store.last_number() == 1


@pytest.mark.parametrize("arguments", [(), ("and deliver",)])
def test_an_outbox_repaired_by_another_process_is_still_held_by_the_process_that_sends_from_it(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "outbox.sqlite3"
    with Outbox(tmp_path) as outbox:
        outbox.hold_for_delivery()
        outbox.put(outgoing(1))
        outbox._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.write(bytes(100))
        said = other_process("outbox", str(tmp_path), *arguments)
        assert said.startswith(f"'{path}' is in use by another process") == bool(arguments)
        outbox.put(outgoing(2))
        assert outbox.waiting().number == 3
        assert "is in use by another process" in other_process("outbox", str(tmp_path), "and deliver")
    assert len(aside(path)) == 1
