import contextlib
import multiprocessing
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from idlib.errors import StoreError
from idlib.storage.outbox import (
    FILE_NAME,
    MAX_OCTETS,
    BootTime,
    NewOutgoingMessage,
    Outbox,
    Waiting,
    state_of_files,
)
from tests.idlib.storage.damage import aside
from tests.idlib.storage.outbox_rules import BOB, Opening, OutboxRules, message, texts_to


@pytest.fixture
def opening(tmp_path: Path) -> Opening:
    return partial(Outbox, tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path) as outbox:
        yield outbox


class TestOutbox(OutboxRules):
    """The rules of every engine."""


def test_a_week_of_a_message_a_minute_fits(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox._connection.execute("PRAGMA synchronous = OFF")
        for minute in range(7 * 24 * 60):
            outbox.put(message(f"{minute:032}", text="temperature 21.5", queued_at=1000 + 60 * minute))
        assert outbox.waiting() == Waiting(7 * 24 * 60, 1000)
        assert outbox.recipients() == (BOB,)
        assert outbox._path.stat().st_size < MAX_OCTETS


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one"))
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_no_file_has_a_removed_text_while_the_outbox_is_in_use(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.hold_for_delivery()
        outbox.put(message("one", text="a secret"))
        outbox.put(message("two", text="still here"))
        outbox.remove(1)
        _wait_until_nothing_is_left(tmp_path, b"a secret", lambda: outbox.forget_expired(1001, 100, 500))
        assert texts_to(outbox, BOB) == ["still here"]
        outbox.forget_expired(2000, 100, 500)
        _wait_until_nothing_is_left(tmp_path, b"still here", lambda: outbox.forget_expired(2000, 100, 500))


def test_a_text_that_a_killed_process_left_in_the_log_is_wiped_by_the_next_resident_sender(tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one", text="a secret"))
        outbox._connection.execute("DELETE FROM outgoing")
        for path in tmp_path.glob("outbox*"):
            shutil.copy(path, tmp_path / "killed")
    assert b"a secret" in (tmp_path / "killed" / f"{FILE_NAME}-wal").read_bytes()
    with Outbox(tmp_path / "killed") as outbox:
        outbox.hold_for_delivery()
        _wait_until_nothing_is_left(tmp_path / "killed", b"a secret", lambda: outbox.forget_expired(1, 100, 500))


def _wait_until_nothing_is_left(directory: Path, text: bytes, poll: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while any(text in path.read_bytes() for path in directory.iterdir() if path.is_file()):
        assert time.monotonic() < end
        poll()
        time.sleep(0.1)


def test_the_outbox_of_release_0_1_0_opens_with_its_messages(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "releases" / "0.1.0" / "data" / FILE_NAME, tmp_path)
    with Outbox(tmp_path) as outbox:
        assert outbox.waiting() == Waiting(3, 1_800_000_000)
        assert texts_to(outbox, "alice._device.example.com") == ["outgoing 0", "outgoing 1", "outgoing 2"]
        assert outbox.forget_expired(1_800_003_601, 10_000, 10_000) == [("identifier-1", "alice._device.example.com")]
        outbox.put(message("large", text="x" * (MAX_OCTETS - 3 * 200 - 20)))
        with pytest.raises(StoreError, match="the outbox is full: 3 messages"):
            outbox.put(message("one more"))


def test_a_full_disk_is_an_error_and_leaves_the_outbox_intact(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one"))
        outbox._connection.execute("PRAGMA max_page_count = 10")
        with pytest.raises(StoreError, match="cannot be read or written"):
            outbox.put(message("two", text="x" * 100_000))
        assert outbox.waiting() == Waiting(1, 1000)


def test_only_one_process_can_hold_the_outbox_for_delivery(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.hold_for_delivery()
        with pytest.raises(StoreError, match="in use by another process"):
            Outbox(tmp_path).hold_for_delivery()


def test_a_message_of_this_boot_is_as_old_as_the_boot_clock_shows(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("early", "early.example", queued_at=1000), BootTime("this", 50.0))
        outbox.put(message("near", "near.example", queued_at=90_250), BootTime("this", 200.0))
        outbox.put(message("other", "other.example", queued_at=1000), BootTime("other", 50.0))
        outbox.put(message("unknown", "unknown.example", queued_at=1000))
        outbox.follow_clock(90_100, BootTime("this", 100.0))
        first = {name: outbox.next_to(name, 0) for name in outbox.recipients()}
        times = {name.removesuffix(".example"): one.queued_at for name, one in first.items() if one is not None}
        assert times == {"early": 90_050, "near": 90_250, "other": 1000, "unknown": 1000}
        for one in first.values():
            assert one is not None
            outbox.remove(one.number)
        assert outbox._connection.execute("SELECT count(*) FROM queued_in").fetchone() == (0,)


def test_an_outbox_without_boot_times_is_upgraded(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("old"))
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.executescript(
        "DROP TABLE queued_in; DROP TRIGGER outgoing_gone; DROP TABLE marked; DROP TABLE sealed_to_epoch;"
        "DROP TRIGGER outgoing_unsealed; PRAGMA user_version = 1"
    )
    connection.close()
    with Outbox(tmp_path) as outbox:
        outbox.put(message("new"), BootTime("this", 50.0))
        assert outbox.waiting().number == 2
        outbox.follow_clock(90_100, BootTime("this", 100.0))
        assert outbox.forget_expired(2000, 500, 500) == [("old", BOB)]


def test_the_state_of_the_files_changes_only_when_a_message_is_queued(tmp_path: Path) -> None:
    nothing = state_of_files(tmp_path)
    assert nothing == (None, None)
    states: list[tuple[object, ...]] = [nothing]
    for number in range(3):
        with Outbox(tmp_path) as outbox:
            outbox.put(message(str(number)))
        states.append(state_of_files(tmp_path))
    assert len(set(states)) == 4
    with Outbox(tmp_path) as outbox:
        assert outbox.waiting().number == 3
    assert state_of_files(tmp_path) == states[-1]


@pytest.mark.parametrize(("content", "content_type"), [("text", "text/plain"), (b"bytes", None)])
def test_a_text_has_no_type_and_bytes_have_one(content: str | bytes, content_type: str | None) -> None:
    with pytest.raises(ValueError, match="bytes need one"):
        NewOutgoingMessage(BOB, "identifier", content, 1000, None, content_type=content_type)


def test_an_outbox_from_before_content_types_is_upgraded_and_its_release_rejects_it_then(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("old"))
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        # The tables are the same.
        connection.execute("PRAGMA user_version = 2")
    with Outbox(tmp_path) as outbox:
        outbox.put(NewOutgoingMessage(BOB, "new", b"\0", 1000, None, content_type="image/png"))
        first = outbox.next_to(BOB, 0)
        assert first is not None
        assert (first.content, first.content_type) == ("text", None)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        # A program refuses each version above its own.
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


@pytest.mark.parametrize("stored", [b"", b"\0", b"image/png\0", b"image/png", b"image\0x", b"Image/PNG\0x", b"\xff\0x"])
def test_a_blob_that_this_program_has_not_stored_is_damage(stored: bytes, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("damaged"))
        outbox.put(message("whole"))
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(
            "UPDATE outgoing SET text = ?, octets = ? WHERE identifier = 'damaged'", (stored, len(stored))
        )
    with Outbox(tmp_path) as outbox:
        found = outbox.next_to(BOB, 0)
        assert found is not None
        assert found.identifier == "whole"
    assert len(aside(tmp_path / FILE_NAME)) == 1


def open_and_close(directory: Path, times: int) -> None:
    for _ in range(times):
        with Outbox(directory) as outbox:
            outbox.waiting()


def test_processes_that_open_and_close_the_outbox_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_close, args=(tmp_path, 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME, f"{FILE_NAME}.lock"]


def damage(directory: Path, *statements: str) -> None:
    """Change rows directly, without the triggers that would keep the total correct."""
    with contextlib.closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
            connection.execute(f"DROP TRIGGER {name}")
            statements = (*statements, sql)
        for statement in statements:
            connection.execute(statement)
        connection.commit()


WRONG_TOTALS: Final = (
    "DELETE FROM used",
    "UPDATE used SET messages = -1",
    "UPDATE used SET octets = 'many'",
    "UPDATE used SET messages = 0, octets = 0",
    "UPDATE used SET messages = 5, octets = 100",
)


@pytest.mark.parametrize("statement", WRONG_TOTALS)
@pytest.mark.parametrize("first", ["put", "waiting"])
def test_a_total_that_cannot_be_right_is_damage_and_is_repaired(statement: str, first: str, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one"))
    damage(tmp_path, statement)
    with Outbox(tmp_path) as outbox:
        if first == "put":
            outbox.put(message("two"))
            assert outbox.waiting() == Waiting(2, 1000)
        else:
            assert outbox.waiting() == Waiting(1, 1000)
    assert len(aside(tmp_path / FILE_NAME)) == 1


@pytest.mark.parametrize("messages", [0, 3])
def test_an_empty_outbox_is_not_full_even_if_its_total_is_wrong(messages: int, tmp_path: Path) -> None:
    Outbox(tmp_path).close()
    damage(tmp_path, f"UPDATE used SET messages = {messages}, octets = {MAX_OCTETS}")
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one"))
        assert outbox.waiting() == Waiting(1, 1000)


@pytest.mark.parametrize("first", ["put", "hold_for_delivery"])
def test_a_total_that_is_wrong_but_could_be_right_is_corrected(first: str, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one"))
    damage(tmp_path, f"UPDATE used SET messages = 7, octets = {MAX_OCTETS}")
    with Outbox(tmp_path) as outbox:
        if first == "hold_for_delivery":
            outbox.hold_for_delivery()
            assert outbox.waiting() == Waiting(1, 1000)
        outbox.put(message("two"))
        assert outbox.waiting() == Waiting(2, 1000)
    assert len(aside(tmp_path / FILE_NAME)) == 0


def test_a_damaged_length_of_one_text_does_not_make_the_outbox_full(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("one"))
    damage(tmp_path, "UPDATE outgoing SET octets = 1000000000", "UPDATE used SET octets = 1000000200")
    with Outbox(tmp_path) as outbox:
        outbox.put(message("two"))
        assert outbox.waiting() == Waiting(2, 1000)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outgoing SET recipient = X'FF00' WHERE identifier = 'bad'",
        "UPDATE outgoing SET recipient = 'no name' WHERE identifier = 'bad'",
        "UPDATE outgoing SET identifier = X'FF00' WHERE identifier = 'bad'",
        "UPDATE outgoing SET text = X'FF00' WHERE identifier = 'bad'",
        "UPDATE outgoing SET text = 'other, longer' WHERE identifier = 'bad'",
        "UPDATE outgoing SET queued_at = 'never' WHERE identifier = 'bad'",
        "UPDATE outgoing SET lifetime = X'FF' WHERE identifier = 'bad'",
    ],
)
def test_an_impossible_row_is_not_returned_but_the_others_are(statement: str, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("bad", queued_at=1))
        outbox.put(message("good", text="good"))
    damage(tmp_path, statement)
    with Outbox(tmp_path) as outbox:
        outbox.hold_for_delivery()
        assert outbox.waiting().number in {1, 2}
        assert [texts_to(outbox, recipient) for recipient in outbox.recipients()] == [["good"]]
        assert outbox.waiting() == Waiting(1, 1000)
    assert len(aside(tmp_path / FILE_NAME)) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outgoing SET recipient = X'FF00' WHERE identifier = 'bad'",
        "UPDATE outgoing SET identifier = X'FF00' WHERE identifier = 'bad'",
        "UPDATE outgoing SET queued_at = 'never' WHERE identifier = 'bad'",
        "UPDATE outgoing SET lifetime = 'never' WHERE identifier = 'bad'",
    ],
)
def test_an_impossible_row_is_not_reported_as_expired(statement: str, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        outbox.put(message("bad", queued_at=1))
        outbox.put(message("expired", queued_at=2))
        outbox.put(message("good"))
    damage(tmp_path, statement)
    with Outbox(tmp_path) as outbox:
        assert outbox.forget_expired(1000, 100, 500) == [("expired", BOB)]
        assert texts_to(outbox, BOB) == ["text"]
    assert len(aside(tmp_path / FILE_NAME)) == 1
