"""Small files that a user names or puts in place: read whole, with a bound, and only if they are regular files."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_regular(path: Path, limit: int) -> bytes:
    """Return the contents of a regular file; a symbolic link to one is followed.

    Opening never waits: a named pipe without a writer would block the program for as long as nobody writes to it.

    Args:
        path: Which file.
        limit: How many bytes it may have.

    Raises:
        OSError: The file is missing, unreadable, too large or not a regular file; `strerror` says which.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"there is no such name: {error}", str(path)) from error
    try:
        _check_regular(os.fstat(descriptor), path)
        with open(descriptor, "rb", closefd=False) as file:
            contents = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(contents) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return contents


def kind_of_obstacle(path: Path) -> str | None:
    """Return in words what stands in the place of a regular file; None if that is one, nothing, or cannot be seen.

    Args:
        path: Which place; a symbolic link is followed.
    """
    try:
        return _kind(path.stat())
    except OSError:
        return None


def _check_regular(status: os.stat_result, path: Path) -> None:
    kind = _kind(status)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))


def _kind(status: os.stat_result) -> str | None:
    if stat.S_ISREG(status.st_mode):
        return None
    kind = next((name for matches, name in _KINDS if matches(status.st_mode)), "something else")
    return f"{kind}, not a regular file"
