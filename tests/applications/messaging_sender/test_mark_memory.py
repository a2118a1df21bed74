"""How the sender remembers which names were marked."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from idlib.errors import StoreError
from idlib.names import IdentityName
from idlib.storage.outbox import FILE_NAME, Outbox, is_to_be_opened
from messaging_sender import mark_memory
from messaging_sender.mark_memory import REMEMBERED_SECONDS, MarkMemory

BOB: Final = IdentityName("bob._device.example.com")
CAROL: Final = IdentityName("carol._device.example.com")
NOW: Final = 1_900_000_000
HOUR: Final = 3600


class Opening:
    """Opens the outbox, and counts how often."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.times = 0
        self.error: StoreError | None = None

    @contextmanager
    def __call__(self) -> Iterator[Outbox]:
        self.times += 1
        if self.error is not None:
            raise self.error
        with Outbox(self.directory) as outbox:
            yield outbox


def test_a_mark_is_remembered_by_the_next_program(tmp_path: Path) -> None:
    MarkMemory.in_directory(tmp_path).note(BOB, NOW)
    memory = MarkMemory.in_directory(tmp_path)
    assert memory.recently_marked_at(BOB, NOW + REMEMBERED_SECONDS - 1) == NOW
    assert memory.recently_marked_at(BOB, NOW + REMEMBERED_SECONDS) is None
    assert memory.forget(BOB)
    assert not memory.forget(BOB)
    assert not MarkMemory.in_directory(tmp_path).forget(BOB)


def test_no_outbox_is_created_to_find_that_nothing_is_remembered(tmp_path: Path) -> None:
    opening = Opening(tmp_path)
    memory = MarkMemory(partial(is_to_be_opened, tmp_path), opening)
    assert memory.recently_marked_at(BOB, NOW) is None
    assert not memory.forget(BOB)
    assert opening.times == 0
    assert not (tmp_path / FILE_NAME).exists()


def test_many_messages_cost_one_write_an_hour_or_one_read_a_minute(tmp_path: Path) -> None:
    seconds = [0.0]
    opening = Opening(tmp_path)
    memory = MarkMemory(partial(is_to_be_opened, tmp_path), opening, lambda: seconds[0])
    for second in range(HOUR):
        memory.note(BOB, NOW + second)
    assert opening.times == 1
    memory.note(BOB, NOW + HOUR)
    assert opening.times == 2
    for _ in range(100):
        assert memory.recently_marked_at(CAROL, NOW) is None
    assert opening.times == 3
    # Another program has seen the mark.
    MarkMemory.in_directory(tmp_path).note(CAROL, NOW)
    assert memory.recently_marked_at(CAROL, NOW) is None
    seconds[0] += 60
    assert memory.recently_marked_at(CAROL, NOW) == NOW


def test_a_mark_from_the_future_counts_from_now_on(tmp_path: Path) -> None:
    MarkMemory.in_directory(tmp_path).note(BOB, NOW + 365 * 24 * HOUR)
    memory = MarkMemory.in_directory(tmp_path)
    assert memory.recently_marked_at(BOB, NOW) == NOW
    assert MarkMemory.in_directory(tmp_path).recently_marked_at(BOB, NOW + REMEMBERED_SECONDS) is None


def test_an_outbox_that_cannot_be_written_is_logged_once_and_the_program_itself_remembers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opening = Opening(tmp_path)
    opening.error = StoreError("the disk is full", "free some space")
    memory = MarkMemory(partial(is_to_be_opened, tmp_path), opening)
    with caplog.at_level(logging.WARNING):
        for hours in range(3):
            memory.note(BOB, NOW + 2 * hours * HOUR)
    assert caplog.text.count(f"The mark of {BOB} is not remembered: the disk is full; free some space") == 1
    assert memory.recently_marked_at(BOB, NOW + 5 * HOUR) == NOW + 4 * HOUR


def test_an_outbox_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    Outbox(tmp_path).close()
    opening = Opening(tmp_path)
    opening.error = StoreError("the disk is broken", "replace it")
    with pytest.raises(StoreError, match="the disk is broken"):
        MarkMemory(partial(is_to_be_opened, tmp_path), opening).recently_marked_at(BOB, NOW)


def test_the_memory_of_a_program_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mark_memory, "MAX_MARKED_NAMES", 4)
    memory = MarkMemory.in_directory(tmp_path)
    names = [IdentityName(f"name-{number}.example") for number in range(20)]
    for number, name in enumerate(names):
        memory.note(name, NOW + number)
        assert memory.recently_marked_at(IdentityName(f"unknown-{number}.example"), NOW) is None
    assert len(memory._marked_at) <= 4
    assert len(memory._unknown_until) <= 4
    # What the program has forgotten is still in the outbox.
    assert [memory.recently_marked_at(name, NOW + 20) for name in names] == [NOW + number for number in range(20)]
