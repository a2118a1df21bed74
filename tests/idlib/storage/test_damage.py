"""Damaged files: moved aside, with every row that can be read taken over into a new one."""

import hashlib
import logging
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.storage import Printed, Remembered, ReplayEntry, WaitingMessage, database
from idlib.storage.migration import OLD_FILE_NAME, migrate
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from idlib.storage.replay import ReplayMemory
from idlib.storage.salvage import MAX_DAMAGED_FILES
from idlib.storage.waiting import WaitingMessages

PAGE: Final = 4096
# Before any of the files is written.
NOW: Final = 1_790_000_000
NAMES: Final = [f"sender-{number}.example" for number in range(40)]
# Among them texts that take several pages.
SIZES: Final = (20, 300, 3000, 12_000)


def entry(number: int) -> ReplayEntry:
    issued_at = None if number % 5 == 0 else NOW - 1000 + number % 900
    return ReplayEntry(NAMES[number % len(NAMES)], hashlib.sha256(str(number).encode()).digest()[:16], issued_at)


def waiting_message(number: int) -> WaitingMessage:
    signed = f"<{number}>" * (SIZES[number % len(SIZES)] // 5)
    digest = hashlib.sha256(signed.encode()).digest()
    return WaitingMessage(
        number,
        NAMES[number % 40],
        signed,
        digest,
        digest[:16],
        NOW,
        NOW + 0.5,
        1.5,
        is_asked_again=False,
        is_reserved=True,
    )


def outgoing(number: int) -> NewOutgoingMessage:
    text = f"<ü {number}>" * (SIZES[number % len(SIZES)] // 5)
    return NewOutgoingMessage(NAMES[number % 40], f"id {number}", text, NOW, None if number % 2 else 60)


def fill_replay(directory: Path) -> None:
    with ReplayMemory(directory) as store:
        store.fact("client_id", "c" * 32)
        for begin in range(0, 2000, 100):
            printed = [Printed(entry(number), "example", b"key") for number in range(begin, begin + 100)]
            store.remember(printed, NOW)


def read_replay(directory: Path) -> set[object]:
    with ReplayMemory(directory) as store:
        return {number for number in range(2000) if store.verdict(entry(number)) is Remembered.PRINTED}


def fill_waiting(directory: Path) -> None:
    with WaitingMessages(directory) as store:
        for number in range(1, 101):
            store.change([waiting_message(number)], ())


def read_waiting(directory: Path) -> set[object]:
    with WaitingMessages(directory) as store:
        numbers = [one.number for one in store.index()]
        found = store.read(numbers)
        assert set(found) <= {waiting_message(number) for number in range(1, 101)}
        return {one.number for one in found}


def fill_outbox(directory: Path) -> None:
    with Outbox(directory) as store:
        for number in range(1, 101):
            store.put(outgoing(number))


def read_outbox(directory: Path) -> set[object]:
    with Outbox(directory) as store:
        found: set[object] = set()
        for recipient in store.recipients():
            number = 0
            while (message := store.next_to(recipient, number)) is not None:
                number = message.number
                found.add(int(message.identifier.removeprefix("id ")))
                expected = outgoing(int(message.identifier.removeprefix("id ")))
                assert (message.recipient, message.text) == (expected.recipient, expected.text)
        return found


@dataclass(frozen=True)
class Kind:
    """One of the stores, filled and read whole."""

    name: str
    fill: Callable[[Path], None]
    read: Callable[[Path], set[object]]
    number: int

    def path(self, directory: Path) -> Path:
        return directory / self.name


KINDS: Final = {
    "replay": Kind("replay.sqlite3", fill_replay, read_replay, 2000),
    "waiting": Kind("waiting.sqlite3", fill_waiting, read_waiting, 100),
    "outbox": Kind("outbox.sqlite3", fill_outbox, read_outbox, 100),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    kind = KINDS[request.param]
    kind.fill(tmp_path)
    return kind


def overwrite(path: Path, pages: list[int], content: bytes = b"\xa5" * PAGE) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(content)


def number_of_pages(path: Path) -> int:
    return path.stat().st_size // PAGE


def aside(path: Path) -> list[Path]:
    return sorted(one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith(("-wal", "-shm")))


def rows_touching(path: Path, kind: Kind, pages: set[int]) -> set[object]:
    """Return which rows have a byte on any of the pages, found by trying each page by itself: a slow, plain way."""
    contents = path.read_bytes()
    touched: set[object] = set()
    for number in range(kind.number + 1):
        for needle in needles(kind, number):
            at = contents.find(needle)
            while at >= 0:
                if pages & {at // PAGE + 1, (at + len(needle) - 1) // PAGE + 1}:
                    touched.add(number)
                at = contents.find(needle, at + 1)
    return touched


def needles(kind: Kind, number: int) -> Iterator[bytes]:
    if kind.name.startswith("replay"):
        yield entry(number).identifier
    elif kind.name.startswith("waiting"):
        yield f"<{number}>".encode()
        yield hashlib.sha256(waiting_message(number).signed.encode()).digest() if number else b"<0>"
    else:
        yield f"<ü {number}>".encode()


def test_nothing_is_moved_as_long_as_nothing_is_damaged(kind: Kind, tmp_path: Path) -> None:
    assert len(kind.read(tmp_path)) == kind.number
    assert aside(kind.path(tmp_path)) == []


@pytest.mark.parametrize("seed", range(4))
def test_overwritten_pages_cost_only_the_rows_on_them(
    seed: int, kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = kind.path(tmp_path)
    total = number_of_pages(path)
    pages = random.Random(seed).sample(range(1, total + 1), min(5, total // 4))
    hit = rows_touching(path, kind, set(pages))
    overwrite(path, pages)
    before = path.read_bytes()
    assert kind.read(tmp_path) >= set(range(kind.number)) - {0} - hit
    # A damaged page of an index alone need not be noticed.
    if moved := aside(path):
        assert moved[0].read_bytes() == before
        assert stat.S_IMODE(moved[0].stat().st_mode) == stat.S_IMODE(path.stat().st_mode) == 0o600
        assert str(moved[0]) in caplog.text
        assert [record for record in caplog.records if record.levelno == logging.ERROR]
    else:
        assert 1 not in pages
    assert kind.read(tmp_path) >= set(range(kind.number)) - {0} - hit
    assert len(aside(path)) <= 1


def test_a_zeroed_header_costs_nothing(kind: Kind, tmp_path: Path) -> None:
    with kind.path(tmp_path).open("r+b") as file:
        file.write(bytes(100))
    assert len(kind.read(tmp_path)) == kind.number
    assert len(aside(kind.path(tmp_path))) == 1


def test_a_file_that_was_cut_off_keeps_its_beginning(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    total = number_of_pages(path)
    hit = rows_touching(path, kind, set(range(total // 2 + 1, total + 1)))
    os.truncate(path, total // 2 * PAGE)
    kept = kind.read(tmp_path)
    assert kept >= set(range(kind.number)) - {0} - hit
    assert kept


def test_a_file_of_something_else_is_kept_aside(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    path.write_text("precious " * 1000)
    assert kind.read(tmp_path) == set()
    assert aside(path)[0].read_text() == "precious " * 1000


def test_nothing_that_was_moved_aside_is_overwritten_and_a_few_are_kept(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    for number in range(MAX_DAMAGED_FILES + 2):
        path.write_bytes(b"damage %d" % number * 100)
        kind.read(tmp_path)
        assert len(aside(path)) == min(number + 1, MAX_DAMAGED_FILES)
    contents = {one.read_bytes() for one in aside(path)}
    assert contents == {b"damage %d" % number * 100 for number in range(2, MAX_DAMAGED_FILES + 2)}


def run_and_kill(directory: Path, store: str, statements: str) -> None:
    program = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from tests.idlib.storage.test_damage import *
        store = {store}(Path({str(directory)!r}))
        {statements}
        os.kill(os.getpid(), {signal.SIGKILL})
        """)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


LATE: Final = {
    "replay": (
        "ReplayMemory",
        "store.remember([Printed(entry(number), 'example', b'key') for number in range(50)], 1)",
    ),
    "waiting": ("WaitingMessages", "[store.change([waiting_message(number)], ()) for number in range(1, 51)]"),
    "outbox": ("Outbox", "[store.put(outgoing(number)) for number in range(1, 51)]"),
}


@pytest.mark.parametrize("name", list(KINDS))
def test_a_log_that_a_killed_process_left_is_used(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run_and_kill(tmp_path, *LATE[name])
    assert len(KINDS[name].read(tmp_path)) == 50
    assert "which was not closed" in caplog.text
    assert aside(KINDS[name].path(tmp_path)) == []


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("begin", [0, 12, 24])
def test_a_log_whose_header_is_garbage_costs_nothing_that_was_committed(name: str, begin: int, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE[name])
    path = KINDS[name].path(tmp_path)
    with path.with_name(f"{path.name}-wal").open("r+b") as log:
        log.seek(begin)
        log.write(b"garbage!")
    assert len(KINDS[name].read(tmp_path)) == 50
    (moved,) = aside(path)
    assert moved.with_name(f"{moved.name}-wal").read_bytes()[begin : begin + 8] == b"garbage!"


@pytest.mark.parametrize("name", list(KINDS))
def test_the_log_of_a_file_that_was_cut_off_to_nothing_is_used(name: str, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE[name])
    os.truncate(KINDS[name].path(tmp_path), 0)
    assert len(KINDS[name].read(tmp_path)) == 50


@pytest.mark.parametrize("name", ["waiting", "outbox"])
def test_a_damaged_frame_of_the_log_does_not_cost_what_comes_behind_it(name: str, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE[name])
    path = KINDS[name].path(tmp_path)
    log = path.with_name(f"{path.name}-wal")
    with log.open("r+b") as file:
        file.seek(32 + 20 * (PAGE + 24) + 1000)
        file.write(b"garbage!")
    kept = KINDS[name].read(tmp_path)
    # SQLite by itself keeps none behind the frame.
    assert len(kept) >= 45
    assert 50 in kept


@pytest.mark.parametrize("name", list(KINDS))
def test_a_log_of_nothing_but_garbage_leaves_the_file_as_it_is(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    kind.fill(tmp_path)
    path = kind.path(tmp_path)
    path.with_name(f"{path.name}-wal").write_bytes(random.Random(1).randbytes(50_000))
    assert len(kind.read(tmp_path)) == kind.number


def test_an_unclean_end_lets_hidden_damage_be_found_at_the_start(tmp_path: Path) -> None:
    run_and_kill(tmp_path, "WaitingMessages", "[store.change([waiting_message(n)], ()) for n in range(1, 101)]")
    path = tmp_path / "waiting.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.with_name(f"{path.name}-kept").write_bytes(path.read_bytes())
    path.with_name(f"{path.name}-kept").rename(path)
    overwrite(path, [number_of_pages(path) // 2])
    path.with_name(f"{path.name}-wal").touch()
    WaitingMessages(tmp_path).close()
    assert len(aside(path)) == 1


@pytest.mark.parametrize("name", list(KINDS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_damage_raises_nothing_else_and_costs_only_what_it_hits(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = KINDS[name]
    directory = tmp_path_factory.mktemp("damage")
    path = kind.path(directory)
    path.write_bytes(filled(kind, tmp_path_factory))
    spots = data.draw(st.lists(st.tuples(st.integers(0, path.stat().st_size - 1), st.binary(min_size=1, max_size=40))))
    pages = {at // PAGE + 1 for at, octets in spots} | {(at + len(octets) - 1) // PAGE + 1 for at, octets in spots}
    hit = rows_touching(path, kind, pages)
    with path.open("r+b") as file:
        for at, octets in spots:
            file.seek(at)
            file.write(octets)
    # Without it SQLite can pass over damage to what leads it to a row.
    path.with_name(f"{path.name}-wal").touch()
    try:
        kept = reading_past_damage(kind, directory)
    except StoreError as error:
        assert "newer version" in str(error)
        return
    assert kept >= set(range(kind.number)) - {0} - hit


_FILLED: dict[str, bytes] = {}


def filled(kind: Kind, factory: pytest.TempPathFactory) -> bytes:
    if kind.name not in _FILLED:
        directory = factory.mktemp("filled")
        kind.fill(directory)
        _FILLED[kind.name] = kind.path(directory).read_bytes()
    return _FILLED[kind.name]


def reading_past_damage(kind: Kind, directory: Path) -> set[object]:
    """Read a store; what was damaged within a text is met as the text of another message, not as damage."""
    try:
        return kind.read(directory)
    except AssertionError:
        return set(range(kind.number))


def test_what_is_not_known_to_be_printed_is_new_only_if_it_was_issued_after_the_last_write(tmp_path: Path) -> None:
    fill_replay(tmp_path)
    path = tmp_path / "replay.sqlite3"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    os.utime(path, (NOW, NOW))
    unknown = b"u" * 16
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(ReplayEntry(NAMES[0], unknown, NOW + 300)) is Remembered.MAYBE_FORGOTTEN
        assert store.verdict(ReplayEntry(NAMES[0], unknown, NOW + 301)) is Remembered.NEW
        assert store.verdict(ReplayEntry(NAMES[0], unknown, None)) is Remembered.NEW


def test_a_log_that_is_younger_than_the_file_decides(tmp_path: Path) -> None:
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


def test_a_memory_that_was_cut_off_to_nothing_is_no_new_one(tmp_path: Path) -> None:
    fill_replay(tmp_path)
    os.truncate(tmp_path / "replay.sqlite3", 0)
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry(1)) is Remembered.MAYBE_FORGOTTEN


def test_it_is_said_that_messages_may_repeat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill_replay(tmp_path)
    path = tmp_path / "replay.sqlite3"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    os.utime(path, (NOW, NOW))
    ReplayMemory(tmp_path).close()
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "0 rows of it can be read and are kept" in line
    assert "issued until 2026-09-21T14:18:20Z" in line
    assert "unbound ones that were printed before may be printed again" in line


@pytest.mark.parametrize("name", list(KINDS))
def test_damage_while_it_is_open_is_repaired_in_place(name: str, tmp_path: Path) -> None:
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


def test_what_was_printed_since_the_start_is_the_latest_that_can_be_forgotten(tmp_path: Path) -> None:
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


def test_a_disk_that_damages_each_new_file_is_not_filled_with_them(
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


def test_a_full_disk_is_no_damage_and_no_repair_is_begun_that_cannot_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_waiting(tmp_path)
    path = tmp_path / "waiting.sqlite3"
    overwrite(path, [1])
    before = path.read_bytes()

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("idlib.storage.salvage.copy_rows", fail)
    with pytest.raises(StoreError, match=r"cannot be repaired: .*No space left on device.*; make room"):
        WaitingMessages(tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if "damaged" in one.name or "salvaged" in one.name] == []


def test_a_repair_that_failed_is_tried_again_only_after_a_pause_and_says_why(
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


def test_two_that_repair_an_outbox_at_once_lose_nothing(tmp_path: Path) -> None:
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


def test_numbers_of_lost_messages_are_not_given_again(tmp_path: Path) -> None:
    fill_outbox(tmp_path)
    path = tmp_path / "outbox.sqlite3"
    overwrite(path, list(range(1, number_of_pages(path) + 1)))
    with Outbox(tmp_path) as outbox:
        outbox.put(outgoing(7))
        message = outbox.next_to(outgoing(7).recipient, 0)
        assert message is not None
        assert message.number > 100
        assert outbox.waiting().number == 1


def test_the_damaged_file_of_the_first_release_is_taken_over_as_far_as_it_can_be_read(tmp_path: Path) -> None:
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


def test_a_large_memory_is_salvaged_in_a_bounded_time(tmp_path: Path) -> None:
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
