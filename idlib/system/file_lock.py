"""Locks a file or a directory against other processes, and waits for them."""

import fcntl
import time
from typing import Final

_PAUSE_SECONDS: Final = 0.05


def lock(descriptor: int, seconds: float) -> None:
    """Lock an open file or directory (flock(2)) until the descriptor is closed.

    Args:
        descriptor: The open file.
        seconds: How long to wait if another process has the lock.

    Raises:
        TimeoutError: Another process still has it.
        OSError: The file system has no locks.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError("another process has the lock") from error
            time.sleep(_PAUSE_SECONDS)
