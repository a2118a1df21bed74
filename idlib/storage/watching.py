"""Whether a program watches the outbox: it holds a lock for as long as it runs, however it ends."""

import contextlib
import fcntl
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import DIRECTORY_MODE, NotRegularError, open_regular
from idlib.storage.lock_file import wait_for

FILE_NAME: Final = "outbox.lock"


@contextlib.contextmanager
def watching(directory: Path) -> Iterator[None]:
    """Let other programs see that this one watches the outbox; several may.

    Args:
        directory: Where the outbox is, or will be; created if it is missing.

    Raises:
        StoreError: The directory cannot be used.
    """
    path = directory / FILE_NAME
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            # A program that looks whether we watch locks it for a moment.
            is_locked = wait_for(functools.partial(_take, descriptor, fcntl.LOCK_SH))
        except OSError as error:
            raise StoreError(
                f"{quoted(path)} cannot be used: {error.strerror}", "set DATA_PATH to a directory that can be written"
            ) from error
        if not is_locked:
            raise StoreError(f"{quoted(path)} is locked by another process", "stop that process")
        yield


def is_watched(directory: Path) -> bool:
    """Return whether a program watches the outbox, as far as can be seen.

    Args:
        directory: Where the outbox is.
    """
    try:
        descriptor = open_regular(directory / FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotRegularError):
        # Nobody can watch by what is no file.
        return False
    except OSError:
        # It is another user's program, if there is one.
        return True
    try:
        return not _take(descriptor, fcntl.LOCK_EX)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
