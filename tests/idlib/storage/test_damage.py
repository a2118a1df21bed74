"""Damaged files: every readable row is copied to a new file."""

import hashlib
import logging
import os
import random
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.damage import (
    KINDS,
    LATE,
    PAGE,
    AlteredError,
    Kind,
    aside,
    entry,
    number_of_pages,
    overwrite,
    page_bytes,
    run_and_kill,
    waiting_message,
)


def rows_touching(path: Path, kind: Kind, pages: set[int]) -> set[object]:
    """Return which rows have a byte on any of the pages, by a slow and simple search."""
    contents, size = path.read_bytes(), page_bytes(path)
    touched: set[object] = set()
    for number in range(kind.number + 1):
        for needle in needles(kind, number):
            at = contents.find(needle)
            while at >= 0:
                if pages & {at // size + 1, (at + len(needle) - 1) // size + 1}:
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


def test_an_undamaged_file_is_not_moved(kind: Kind, tmp_path: Path) -> None:
    assert len(kind.read(tmp_path)) == kind.number
    assert aside(kind.path(tmp_path)) == []


@pytest.mark.parametrize("seed", range(4))
def test_overwritten_pages_lose_only_the_rows_on_them(
    seed: int, kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = kind.path(tmp_path)
    total = number_of_pages(path)
    pages = random.Random(seed).sample(range(1, total + 1), min(5, total // 4))
    hit = rows_touching(path, kind, set(pages))
    overwrite(path, pages)
    before = path.read_bytes()
    assert kind.read(tmp_path) >= set(range(kind.number)) - {0} - hit
    # Damage that affects only an index need not be found.
    if moved := aside(path):
        assert moved[0].read_bytes() == before
        assert stat.S_IMODE(moved[0].stat().st_mode) == stat.S_IMODE(path.stat().st_mode) == 0o600
        assert str(moved[0]) in caplog.text
        assert [record for record in caplog.records if record.levelno == logging.ERROR]
    else:
        assert 1 not in pages
    assert kind.read(tmp_path) >= set(range(kind.number)) - {0} - hit
    assert len(aside(path)) <= 1


def test_a_zeroed_header_loses_no_rows(kind: Kind, tmp_path: Path) -> None:
    with kind.path(tmp_path).open("r+b") as file:
        file.write(bytes(100))
    assert len(kind.read(tmp_path)) == kind.number
    assert len(aside(kind.path(tmp_path))) == 1


def test_a_truncated_file_keeps_the_rows_before_the_end(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    total = number_of_pages(path)
    hit = rows_touching(path, kind, set(range(total // 2 + 1, total + 1)))
    os.truncate(path, total // 2 * page_bytes(path))
    kept = kind.read(tmp_path)
    assert kept >= set(range(kind.number)) - {0} - hit
    assert kept


def test_a_file_that_is_not_a_database_is_moved_aside(kind: Kind, tmp_path: Path) -> None:
    path = kind.path(tmp_path)
    path.write_text("precious " * 1000)
    assert kind.read(tmp_path) == set()
    assert aside(path)[0].read_text() == "precious " * 1000


@pytest.mark.parametrize("name", list(KINDS))
def test_the_log_of_a_killed_process_is_used(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run_and_kill(tmp_path, *LATE[name])
    assert len(KINDS[name].read(tmp_path)) == 50
    assert "it was not closed properly" in caplog.text
    assert aside(KINDS[name].path(tmp_path)) == []


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("begin", [0, 12, 24])
def test_garbage_in_the_header_of_a_log_loses_no_committed_row(name: str, begin: int, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE[name])
    path = KINDS[name].path(tmp_path)
    with path.with_name(f"{path.name}-wal").open("r+b") as log:
        log.seek(begin)
        log.write(b"garbage!")
    assert len(KINDS[name].read(tmp_path)) == 50
    (moved,) = aside(path)
    assert moved.with_name(f"{moved.name}-wal").read_bytes()[begin : begin + 8] == b"garbage!"


@pytest.mark.parametrize("name", list(KINDS))
def test_the_log_of_a_file_truncated_to_nothing_is_used(name: str, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE[name])
    os.truncate(KINDS[name].path(tmp_path), 0)
    assert len(KINDS[name].read(tmp_path)) == 50


@pytest.mark.parametrize("name", ["waiting", "outbox"])
def test_a_damaged_frame_of_the_log_does_not_lose_the_frames_after_it(name: str, tmp_path: Path) -> None:
    run_and_kill(tmp_path, *LATE[name])
    path = KINDS[name].path(tmp_path)
    log = path.with_name(f"{path.name}-wal")
    with log.open("r+b") as file:
        file.seek(32 + 20 * (PAGE + 24) + 1000)
        file.write(b"garbage!")
    kept = KINDS[name].read(tmp_path)
    # SQLite itself would lose every frame after the damaged one.
    assert len(kept) >= 45
    assert 50 in kept


@pytest.mark.parametrize("name", list(KINDS))
def test_a_log_full_of_garbage_loses_no_row_of_the_file(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    kind.fill(tmp_path)
    path = kind.path(tmp_path)
    path.with_name(f"{path.name}-wal").write_bytes(random.Random(1).randbytes(50_000))
    assert len(kind.read(tmp_path)) == kind.number


def test_after_an_unclean_end_hidden_damage_is_found_at_the_start(tmp_path: Path) -> None:
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
def test_random_damage_raises_no_other_error_and_loses_only_the_damaged_rows(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = KINDS[name]
    directory = tmp_path_factory.mktemp("damage")
    path = kind.path(directory)
    path.write_bytes(filled(kind, tmp_path_factory))
    spots = data.draw(st.lists(st.tuples(st.integers(0, path.stat().st_size - 1), st.binary(min_size=1, max_size=40))))
    size = page_bytes(path)
    pages = {at // size + 1 for at, octets in spots} | {(at + len(octets) - 1) // size + 1 for at, octets in spots}
    hit = rows_touching(path, kind, pages)
    with path.open("r+b") as file:
        for at, octets in spots:
            file.seek(at)
            file.write(octets)
    # The log causes a full check; without it, SQLite can miss damage to the pages above a row.
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
    """Read a store; a text with damage inside is returned as a different text, not reported as damage."""
    try:
        return kind.read(directory)
    except AlteredError:
        return set(range(kind.number))
