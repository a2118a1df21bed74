"""Keeps DATA_PATH to one receiver if its stores, which do that otherwise, are in the database of STORE."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import DIRECTORY_MODE, open_regular
from idlib.system.file_lock import lock

_LOCK_FILE: Final = "receiver.lock"
# A receiver that was just stopped may need a moment to end.
_PATIENCE_SECONDS: Final = 2.0


@contextlib.contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """Keep other receivers from using a directory, whose socket for `--health` they would replace.

    Args:
        directory: DATA_PATH, which is created if it is missing.

    Raises:
        StoreError: Another receiver uses it, or it cannot be locked.
    """
    path = directory / _LOCK_FILE
    with contextlib.ExitStack() as stack:
        try:
            # It may be a link to a directory.
            with contextlib.suppress(FileExistsError):
                directory.mkdir(DIRECTORY_MODE, parents=True)
            descriptor = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            lock(descriptor, _PATIENCE_SECONDS)
        except TimeoutError as error:
            raise StoreError(
                f"{quoted(path)} is in use by another process",
                "stop the other receiver, or give this one a DATA_PATH of its own",
            ) from error
        except OSError as error:
            raise StoreError(
                f"{quoted(path)} cannot be locked: {error.strerror}",
                "set DATA_PATH to a directory that can be written, on a file system that supports locks",
            ) from error
        yield
