"""Whether a program watches the outbox: it holds a lock for as long as it runs, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import DIRECTORY_MODE, FILE_MODE

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
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            raise StoreError(
                f"{quoted(path)} cannot be used: {error.strerror}", "set DATA_PATH to a directory that can be written"
            ) from error
        yield


def is_watched(directory: Path) -> bool:
    """Return whether a program watches the outbox, as far as can be seen.

    Args:
        directory: Where the outbox is.
    """
    try:
        descriptor = os.open(directory / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        # It is another user's program, if there is one.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
