"""Whether a program watches the outbox: while it does, it holds a lock, which ends with the program."""

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
    """Show other programs that this one watches the outbox; several programs may do so at once.

    Args:
        directory: The directory of the outbox, which need not exist yet; created if it is missing.

    Raises:
        StoreError: The directory cannot be used.
    """
    path = directory / FILE_NAME
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            # Wait: a program that checks for watchers locks the file for a moment.
            is_locked = wait_for(functools.partial(_take, descriptor, fcntl.LOCK_SH))
        except OSError as error:
            raise StoreError(
                f"{quoted(path)} cannot be used: {error.strerror}", "set DATA_PATH to a directory that can be written"
            ) from error
        if not is_locked:
            raise StoreError(f"{quoted(path)} is locked by another process", "stop that process")
        yield


def is_watched(directory: Path) -> bool:
    """Return whether a program watches the outbox; True if that cannot be found out.

    Args:
        directory: The directory of the outbox.
    """
    try:
        descriptor = open_regular(directory / FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotRegularError):
        # No program can hold a lock without a regular file.
        return False
    except OSError:
        # The file may belong to another user's program.
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
