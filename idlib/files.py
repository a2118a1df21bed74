"""Reads small files with a size limit, creates and replaces files with a private mode, and flushes them to the disk."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

# Only their owner has access.
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Errors of os.open() itself: writing to a directory, opening a socket, following a link with O_NOFOLLOW.
_KINDS_BY_ERROR: Final = {errno.EISDIR: "a directory", errno.ENXIO: "a socket", errno.ELOOP: "a symbolic link"}


class NotRegularError(OSError):
    """A path is not a regular file; `strerror` has what it is, and `filename` the path."""


def open_regular(path: Path, flags: int) -> int:
    """Return a descriptor of a regular file; if it is created, only its owner has access.

    Opening does not block: a named pipe would block until another program opens it for writing.

    Args:
        path: The file.
        flags: The flags of os.open().

    Raises:
        NotRegularError: It is not a regular file.
        OSError: It is missing or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, FILE_MODE)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"it is not a valid file name: {error}", str(path)) from error
    except OSError as error:
        kind = _KINDS_BY_ERROR.get(error.errno or 0)
        if kind is not None and (error.errno != errno.ELOOP or flags & os.O_NOFOLLOW):
            raise NotRegularError(errno.EINVAL, f"it is {kind}, not a regular file", str(path)) from error
        raise
    try:
        check_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: Path, limit: int) -> bytes:
    """Return the contents of a regular file; a symbolic link to one is followed.

    Args:
        path: The file.
        limit: The maximum size in bytes.

    Raises:
        OSError: The file is missing, unreadable, too large or not a regular file; `strerror` has the reason.
    """
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        contents = file.read(limit + 1)
    if len(contents) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return contents


def replace_durably(path: Path, contents: bytes, mode: int = FILE_MODE) -> None:
    """Write a file in place of what is there, and flush it to the disk; one process at a time may do so.

    A reader sees the contents from before or from after, also if this process is killed: then it may leave a file whose
    suffix is `.new`, which the next call removes.

    Args:
        path: The file.
        contents: Its contents.
        mode: Its permissions, whatever the umask.

    Raises:
        OSError: It cannot be written; unless only the directory could not be flushed, it is unchanged.
    """
    # No longer than the name, because that may be as long as a name in DNS.
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    make_durable(path.parent)


def make_durable(path: Path) -> None:
    """Flush a file to the disk; for a directory, the names of its files.

    Args:
        path: The file or the directory.

    Raises:
        OSError: It cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def status_of(path: Path) -> os.stat_result | None:
    """Return the status of a file, which another process may remove at any time; None if there is none.

    Args:
        path: The file.

    Raises:
        OSError: Its status cannot be read.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def state_of(path: Path) -> tuple[int, ...] | None:
    """Return numbers of which at least one changes when a file is written or replaced; None if they cannot be read.

    Args:
        path: The file. The last number is the time of its last change, in nanoseconds since the epoch.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def kind_of_obstacle(path: Path) -> str | None:
    """Return what a path is instead of a regular file; None if it is one, does not exist, or cannot be read.

    Args:
        path: The path; a symbolic link is followed.
    """
    try:
        return _kind(path.stat())
    except OSError:
        return None


def check_regular(status: os.stat_result, path: Path) -> None:
    """Raise an error unless a file is a regular one.

    Args:
        status: The file's status.
        path: The file.

    Raises:
        NotRegularError: It is something else.
    """
    kind = _kind(status)
    if kind is not None:
        raise NotRegularError(errno.EINVAL, f"it is {kind}", str(path))


def _kind(status: os.stat_result) -> str | None:
    if stat.S_ISREG(status.st_mode):
        return None
    kind = next((name for matches, name in _KINDS if matches(status.st_mode)), "something else")
    return f"{kind}, not a regular file"
