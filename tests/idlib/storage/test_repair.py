"""How a damaged file is replaced: in use, on a full disk, after a crash; and which messages count as forgotten then."""

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage import Printed, Remembered, ReplayEntry, database
from idlib.storage.migration import OLD_FILE_NAME, migrate
from idlib.storage.outbox import Outbox
from idlib.storage.replay import ReplayMemory
from idlib.storage.salvage import MAX_DAMAGED_FILES
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.damage import (
    KINDS,
    LATE,
    NAMES,
    NOW,
    PAGE,
    Kind,
    aside,
    entry,
    fill_outbox,
    fill_replay,
    fill_waiting,
    number_of_pages,
    outgoing,
    overwrite,
    read_outbox,
    run_and_kill,
    waiting_message,
)


def test_files_moved_aside_are_not_overwritten_and_the_newest_few_are_kept(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    for number in range(MAX_DAMAGED_FILES + 2):
        path.write_bytes(b"damage %d" % number * 100)
        kind.read(tmp_path)
        assert len(aside(path)) == min(number + 1, MAX_DAMAGED_FILES)
    contents = {one.read_bytes() for one in aside(path)}
    assert contents == {b"damage %d" % number * 100 for number in range(2, MAX_DAMAGED_FILES + 2)}


def test_an_unknown_message_is_new_only_if_it_was_issued_after_the_last_write(tmp_path: Path) -> None:
    fill_replay(tmp_path)
    path = tmp_path / "replay.sqlite3"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    os.utime(path, (NOW, NOW))
    unknown = b"u" * 16
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(ReplayEntry(NAMES[0], unknown, NOW + 300)) is Remembered.MAYBE_FORGOTTEN
        assert store.verdict(ReplayEntry(NAMES[0], unknown, NOW + 301)) is Remembered.NEW
        assert store.verdict(ReplayEntry(NAMES[0], unknown, None)) is Remembered.NEW


def test_the_time_of_the_log_counts_if_it_is_newer_than_the_file(tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE["replay"])
    path = tmp_path / "replay.sqlite3"
    log = path.with_name(f"{path.name}-wal")
    os.truncate(path, 0)
    log.write_bytes(b"\xa5" * 40_000)
    os.utime(path, (NOW - 5000, NOW - 5000))
    os.utime(log, (NOW, NOW))
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(ReplayEntry(NAMES[0], b"u" * 16, NOW + 300)) is Remembered.MAYBE_FORGOTTEN
        assert store.verdict(ReplayEntry(NAMES[0], b"u" * 16, NOW + 301)) is Remembered.NEW


def test_a_memory_truncated_to_nothing_is_not_a_new_one(tmp_path: Path) -> None:
    fill_replay(tmp_path)
    os.truncate(tmp_path / "replay.sqlite3", 0)
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry(1)) is Remembered.MAYBE_FORGOTTEN


def test_the_log_line_says_that_messages_may_be_printed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill_replay(tmp_path)
    path = tmp_path / "replay.sqlite3"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    os.utime(path, (NOW, NOW))
    ReplayMemory(tmp_path).close()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "0 readable rows were kept" in line
    assert "issued until 2026-09-21T14:18:20Z" in line
    assert "unbound messages that were printed before may be printed again" in line


@pytest.mark.parametrize("name", list(KINDS))
def test_damage_to_an_open_file_is_repaired_in_place(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    kind.fill(tmp_path)
    path = kind.path(tmp_path)
    with _opened(kind, tmp_path) as store:
        overwrite(path, list(range(1, number_of_pages(path) + 1)))
        match store:
            case ReplayMemory():
                store.remember([Printed(entry(5000), "example", b"key")], NOW)
                assert store.verdict(entry(5000)) is Remembered.PRINTED
                assert store.fact("client_id", "another") == "c" * 32, "it was known"
                assert store.verdict(ReplayEntry(NAMES[0], b"u" * 16, NOW - 200)) is Remembered.MAYBE_FORGOTTEN
            case WaitingMessages():
                store.change([waiting_message(101)], ())
                assert [one.number for one in store.index()] == [101]
            case Outbox():
                store.put(outgoing(101))
                assert store.recipients() == (outgoing(101).recipient,)
    assert len(aside(path)) == 1


def _opened(kind: Kind, directory: Path) -> ReplayMemory | WaitingMessages | Outbox:
    if kind.name.startswith("replay"):
        store = ReplayMemory(directory)
        store.fact("client_id", "x")
        return store
    return WaitingMessages(directory) if kind.name.startswith("waiting") else Outbox(directory)


def test_messages_issued_after_the_last_printed_one_are_new_after_a_repair(tmp_path: Path) -> None:
    path = tmp_path / "replay.sqlite3"
    with ReplayMemory(tmp_path) as store:
        store.remember([Printed(entry(number), "example", b"key") for number in range(900)], NOW)
        overwrite(path, list(range(1, 20)))
        with path.with_name(f"{path.name}-wal").open("r+b") as log:
            log.write(b"\xa5" * path.with_name(f"{path.name}-wal").stat().st_size)
        assert store.verdict(ReplayEntry(NAMES[0], b"u" * 16, NOW)) is Remembered.NEW
        assert store.verdict(entry(899)) is not Remembered.NEW


def lose_table(store: WaitingMessages) -> None:
    store._connection.execute("DROP TABLE waiting")


def test_a_disk_that_damages_each_new_file_is_not_filled_with_damaged_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_waiting(tmp_path)
    path = tmp_path / "waiting.sqlite3"
    with WaitingMessages(tmp_path) as store:
        lose_table(store)
        assert list(store.index()) == []
        lose_table(store)
        with pytest.raises(StoreError, match="was repaired less than 60 s ago"):
            list(store.index())
        assert len(aside(path)) == 1
        monkeypatch.setattr(database, "_REPAIR_PAUSE_SECONDS", 0.0)
        assert list(store.index()) == []
        assert len(aside(path)) == 2


def test_a_repair_that_fails_on_a_full_disk_leaves_the_damaged_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_waiting(tmp_path)
    path = tmp_path / "waiting.sqlite3"
    overwrite(path, [1])
    before = path.read_bytes()

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("idlib.storage.salvage.copy_rows", fail)
    with pytest.raises(StoreError, match=r"cannot be repaired: .*No space left on device.*; free space"):
        WaitingMessages(tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if "damaged" in one.name or "salvaged" in one.name] == []


def test_a_failed_repair_is_retried_only_after_a_pause_and_its_error_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def fail(*_: object) -> int:
        attempts.append(1)
        raise OSError(28, "No space left on device")

    with WaitingMessages(tmp_path) as store:
        lose_table(store)
        with monkeypatch.context() as patch:
            patch.setattr("idlib.storage.salvage.copy_rows", fail)
            for _ in range(3):
                with pytest.raises(StoreError, match=r"cannot be repaired: .*No space left on device"):
                    store.last_number()
        assert len(attempts) == 1
        monkeypatch.setattr(database, "_REPAIR_PAUSE_SECONDS", 0.0)
        assert store.last_number() == 0


@pytest.mark.parametrize("moment", ["before the damaged file is moved", "after"])
def test_a_crash_while_a_file_is_replaced_loses_nothing(moment: str, kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    new = path.with_name(f"{path.name}.salvaged")
    if moment == "after":
        path.rename(new)
        path.with_name(f"{path.name}-wal").write_bytes(b"of the damaged file")
    else:
        new.write_bytes(path.read_bytes()[: 3 * PAGE])
    assert len(kind.read(tmp_path)) == kind.number
    assert not new.exists()


def test_a_crash_between_two_renames_keeps_the_parts_of_a_damaged_file_together(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    path.with_name(f"{path.name}.salvaged").write_bytes(path.read_bytes())
    moved = path.with_name(f"{path.name}.damaged-2026-01-01T000000Z")
    path.rename(moved)
    path.with_name(f"{path.name}-wal").write_bytes(b"of the damaged file")
    assert len(kind.read(tmp_path)) == kind.number
    assert aside(path) == [moved]
    assert moved.with_name(f"{moved.name}-wal").read_bytes() == b"of the damaged file"


def test_the_log_of_an_earlier_damaged_file_is_not_overwritten(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    path.rename(path.with_name(f"{path.name}.salvaged"))
    earlier = path.with_name(f"{path.name}.damaged-2026-01-01T000000Z")
    earlier.write_bytes(b"earlier")
    earlier.with_name(f"{earlier.name}-wal").write_bytes(b"earlier log")
    path.with_name(f"{path.name}-wal").write_bytes(b"later log")
    assert len(kind.read(tmp_path)) == kind.number
    assert earlier.with_name(f"{earlier.name}-wal").read_bytes() == b"earlier log"
    assert any(one.read_bytes() == b"later log" for one in tmp_path.glob(f"{path.name}.damaged-*-wal"))


def test_a_log_without_its_damaged_file_counts_as_one_of_the_kept_files(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    orphan = path.with_name(f"{path.name}.damaged-2026-01-01T000000Z-wal")
    orphan.write_bytes(b"of a file that is gone")
    for number in range(MAX_DAMAGED_FILES):
        path.write_bytes(b"damage %d" % number * 100)
        kind.read(tmp_path)
    assert not orphan.exists()
    assert len(aside(path)) == MAX_DAMAGED_FILES


def test_two_threads_that_repair_an_outbox_at_once_lose_nothing(tmp_path: Path) -> None:
    fill_outbox(tmp_path)
    path = tmp_path / "outbox.sqlite3"
    with Outbox(tmp_path) as first, Outbox(tmp_path) as second:
        first.hold_for_delivery()
        overwrite(path, [1, 2, 3])
        barrier = threading.Barrier(2)

        def put(outbox: Outbox, begin: int) -> None:
            barrier.wait()
            for number in range(begin, begin + 20):
                outbox.put(outgoing(number))

        threads = [threading.Thread(target=put, args=args) for args in ((first, 1000), (second, 2000))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(StoreError, match="in use by another process"):
            Outbox(tmp_path).hold_for_delivery()
    assert read_outbox(tmp_path) >= {*range(1000, 1020), *range(2000, 2020)}


def test_numbers_of_lost_messages_are_not_used_again(tmp_path: Path) -> None:
    fill_outbox(tmp_path)
    path = tmp_path / "outbox.sqlite3"
    overwrite(path, list(range(1, number_of_pages(path) + 1)))
    with Outbox(tmp_path) as outbox:
        outbox.put(outgoing(7))
        message = outbox.next_to(outgoing(7).recipient, 0)
        assert message is not None
        assert message.number > 100
        assert outbox.waiting().number == 1


def test_the_readable_part_of_a_damaged_file_of_release_0_1_0_is_migrated(tmp_path: Path) -> None:
    released = Path(__file__).parents[2] / "releases/0.1.0/data/messages.sqlite3"
    path = tmp_path / OLD_FILE_NAME
    path.write_bytes(released.read_bytes())
    with path.open("r+b") as file:
        file.write(bytes(100))
    last_write = 1_810_000_000
    os.utime(path, (last_write, last_write))
    assert migrate(tmp_path, last_write, lambda sender, _signed, digest: ReplayEntry(sender, digest[:16], None))
    with WaitingMessages(tmp_path) as waiting, ReplayMemory(tmp_path) as memory:
        assert waiting.last_number() > 0
        assert memory.verdict(ReplayEntry(NAMES[0], b"u" * 16, last_write + 300)) is Remembered.MAYBE_FORGOTTEN
        assert memory.verdict(ReplayEntry(NAMES[0], b"u" * 16, last_write + 301)) is Remembered.NEW


def test_a_large_memory_is_repaired_within_a_minute(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        for begin in range(0, 100_000, 5000):
            entries = [ReplayEntry(NAMES[0], number.to_bytes(16), NOW) for number in range(begin, begin + 5000)]
            store.remember([Printed(one, "example", b"key") for one in entries], NOW)
    path = tmp_path / "replay.sqlite3"
    overwrite(path, [1])
    begun = time.monotonic()
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(ReplayEntry(NAMES[0], (5).to_bytes(16), NOW)) is Remembered.PRINTED
    assert time.monotonic() - begun < 60
