"""When a file was last written, which decides what may be missing from it if it is damaged.

Opening or repairing a file writes to it, and either can be interrupted. So the time is first noted in a file beside it,
and the note is removed once the file has been checked or replaced.
"""

import contextlib
from pathlib import Path
from typing import Final

from idlib.files import make_durable, read_regular, replace_durably, status_of
from idlib.storage.salvage import LOG, beside

END: Final = ".last-write"
_NOTE_BYTES: Final = 32


def last_write(path: Path) -> int | None:
    """Return when a file or its WAL was last written, in seconds since the epoch; None if there is no file.

    Args:
        path: The file, which no process has opened since it was locked.

    Raises:
        OSError: The status of the file cannot be read.
    """
    file, log = status_of(path), status_of(beside(path, LOG))
    if file is None:
        return None
    # An empty WAL is created whenever the file is opened.
    written = file.st_mtime if log is None or log.st_size == 0 else max(file.st_mtime, log.st_mtime)
    noted = _noted(path)
    return int(written) if noted is None else noted


def note(path: Path, moment: int) -> None:
    """Note when a file was last written; ignore errors, since a missing note only causes more refusals.

    Args:
        path: The file.
        moment: The time, in seconds since the epoch.
    """
    with contextlib.suppress(OSError):
        replace_durably(beside(path, END), str(moment).encode())


def forget(path: Path) -> None:
    """Remove the note durably, because the file will be written again.

    Args:
        path: The file.

    Raises:
        OSError: The note cannot be removed.
    """
    try:
        beside(path, END).unlink()
    except FileNotFoundError:
        return
    make_durable(path.parent)


def _noted(path: Path) -> int | None:
    try:
        return int(read_regular(beside(path, END), _NOTE_BYTES))
    except (OSError, ValueError):
        return None
