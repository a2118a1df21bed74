"""Another program counts for how long the system has run as the receiver does."""

import time
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.storage.replay import FILE_NAME, ReplayMemory
from idlib.timekeeping import Timekeeper
from messaging_receiver.running_time import elapsed


def test_it_agrees_with_the_receiver_while_that_runs_and_after_it(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as memory:
        timekeeper = Timekeeper(memory, boot_clock=lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        timekeeper.record()
        assert elapsed(tmp_path) == pytest.approx(timekeeper.elapsed(), abs=2)
        timekeeper.finish()
    assert elapsed(tmp_path) == pytest.approx(timekeeper.elapsed(), abs=2)


def test_without_a_receiver_it_begins_with_this_start_of_the_system(tmp_path: Path) -> None:
    assert elapsed(tmp_path) == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=2)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        elapsed(tmp_path)
