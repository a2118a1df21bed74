import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlib.system.file_lock import lock


@pytest.fixture
def descriptors(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Return two descriptors of a directory, as two processes have them."""
    opened = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_only_one_process_has_the_lock(descriptors: tuple[int, int]) -> None:
    first, second = descriptors
    lock(first, 0)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="another process has the lock"):
        lock(second, 0.2)
    assert time.monotonic() - began >= 0.2


def test_the_next_process_gets_it_when_the_first_one_closes_the_file(tmp_path: Path) -> None:
    first, second = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    lock(first, 0)
    closing = threading.Timer(0.1, os.close, (first,))
    closing.start()
    lock(second, 10)
    closing.join()
    os.close(second)
