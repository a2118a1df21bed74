"""A page with the content of another page: every loop ends, and readable rows are kept."""

import shutil
import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from idlib.storage import Printed, ReplayEntry
from idlib.storage.migration import OLD_FILE_NAME, migrate
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from idlib.storage.replay import ReplayMemory
from idlib.storage.sender_rows import DAY
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.damage import NAMES, NOW, aside, overwrite, page_bytes, short_message

RELEASED: Final = Path(__file__).parents[2] / "releases/0.1.0/data" / OLD_FILE_NAME
NUMBER: Final = 120
TABLE_INTERIOR: Final = 0x05
INDEX_INTERIOR: Final = 0x02
TABLE_LEAF: Final = 0x0D
INDEX_LEAF: Final = 0x0A


def root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0])


def leaves(path: Path, name: str) -> list[int]:
    """Return the leaves of a table or index, in the order of their keys."""
    pages = [root(path, name)]
    while (found := content(path, pages[0]))[0] in {TABLE_INTERIOR, INDEX_INTERIOR}:
        pages = [child for page in pages for child in children(content(path, page))]
    assert found[0] in {TABLE_LEAF, INDEX_LEAF}
    assert len(pages) > 1
    return pages


def content(path: Path, number: int) -> bytes:
    size = page_bytes(path)
    return path.read_bytes()[(number - 1) * size : number * size]


def children(page: bytes) -> list[int]:
    count = int.from_bytes(page[3:5])
    cells = [int.from_bytes(page[12 + 2 * one : 14 + 2 * one]) for one in range(count)]
    return [*(int.from_bytes(page[cell : cell + 4]) for cell in cells), int.from_bytes(page[8:12])]


def misdirect_first(path: Path, name: str, target: int) -> None:
    """Overwrite a page of a table or index with the content of its first page."""
    pages = leaves(path, name)
    overwrite(path, [pages[target]], content(path, pages[0]))


def test_deferred_messages_are_listed_once(tmp_path: Path) -> None:
    with WaitingMessages(tmp_path) as store:
        store.change([short_message(number) for number in range(1, NUMBER)], ())
    path = tmp_path / "waiting.sqlite3"
    misdirect_first(path, "waiting", -1)
    with WaitingMessages(tmp_path) as store:
        numbers = [one.number for one in islice(store.index(), 2 * NUMBER)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= NUMBER - 8
    assert len(aside(path)) == 1


def test_the_recipients_of_the_outbox_are_listed_once(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        for number in range(NUMBER):
            name = f"{'x' * 60}.{number:03}.example"
            outbox.put(NewOutgoingMessage(name, f"id {number}", "text", NOW, None))
    path = tmp_path / "outbox.sqlite3"
    misdirect_first(path, "outgoing_by_recipient", -1)
    with Outbox(tmp_path) as outbox:
        recipients = outbox.recipients()
    assert len(recipients) == len(set(recipients))


def test_the_messages_to_a_recipient_are_returned_once(tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        for number in range(1000):
            outbox.put(NewOutgoingMessage(NAMES[0], f"id {number}", "text", NOW, None))
    path = tmp_path / "outbox.sqlite3"
    misdirect_first(path, "outgoing_by_recipient", -1)
    numbers = [0]
    with Outbox(tmp_path) as outbox:
        while len(numbers) < 2000 and (found := outbox.next_to(NAMES[0], numbers[-1])) is not None:
            numbers.append(found.number)
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 800


@pytest.mark.parametrize("target", [1, 4, 9, -1])
@pytest.mark.parametrize("table", ["bound", "unbound"])
def test_forgetting_ends(table: str, target: int, tmp_path: Path) -> None:
    days = [NOW // DAY + number % 3 for number in range(2000)]
    with ReplayMemory(tmp_path) as store:
        for number, day in enumerate(days):
            issued_at = day * DAY if table == "bound" else None
            entry = ReplayEntry(NAMES[0], number.to_bytes(16), issued_at)
            store.remember([Printed(entry, "example", b"key")], day * DAY)
    path = tmp_path / "replay.sqlite3"
    misdirect_first(path, table, target)
    with ReplayMemory(tmp_path) as store:
        steps = 0
        for now in (NOW, NOW + 500 * DAY):
            while steps < 2000 and store.tidy(now).more:
                steps += 1
        assert steps < 2000


def test_a_watermark_that_only_a_damaged_index_has_is_dropped_once(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        store.remember([Printed(ReplayEntry(NAMES[0], bytes(16), NOW), "example", b"key")], NOW)
        store._connection.execute("UPDATE sender SET watermark = 7")
    path = tmp_path / "replay.sqlite3"
    number = root(path, "sender_with_watermark")
    before = content(path, number)
    with ReplayMemory(tmp_path) as store:
        store._connection.execute("UPDATE sender SET watermark = -1")
    overwrite(path, [number], before)
    with ReplayMemory(tmp_path) as store:
        assert sum(store.tidy(NOW).more for _ in range(100)) < 100


@pytest.mark.parametrize("table", ["replay", "waiting"])
def test_the_file_of_release_0_1_0_is_migrated_once(table: str, tmp_path: Path) -> None:
    path = tmp_path / OLD_FILE_NAME
    shutil.copy(RELEASED, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM waiting")
        for number in range(1, NUMBER):
            row = (number, NAMES[0], "x" * 900, number.to_bytes(32), 1.0)
            connection.execute("INSERT INTO waiting VALUES (?, ?, ?, ?, ?)", row)
            entry = (number.to_bytes(16), NAMES[0], NOW, NOW)
            connection.execute("INSERT INTO replay VALUES (?, ?, ?, ?)", entry)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    misdirect_first(path, table, -1)
    assert migrate(tmp_path, NOW, lambda sender, _signed, digest: ReplayEntry(sender, digest[:16], None))
    with WaitingMessages(tmp_path) as waiting:
        assert len(list(waiting.index())) >= NUMBER - 8
