"""The lock file beside a store's file: processes lock it before they use that file. It is never replaced.

The locks belong to an open file description, not to a process or a thread, and end when the holder ends for any reason:
https://www.gnu.org/software/libc/manual/html_node/Open-File-Description-Locks.html
"""

import contextlib
import errno
import fcntl
import functools
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.files import open_regular
from idlib.storage.salvage import beside

END: Final = ".lock"
LOCK_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.01
_REPLACING: Final = 0
_HOLDING: Final = 1
_FORMAT: Final = "hhqqi0q"
_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN})
# Each process that has a file open in WAL mode has a shared lock on these bytes: https://www.sqlite.org/src/file/src/os.h
_FIRST_SHARED_BYTE: Final = 0x40000002
_SHARED_BYTES: Final = 510


def wait_for(take: Callable[[], bool]) -> bool:
    """Try to take a lock for up to 10 seconds, and return whether it was taken.

    Args:
        take: Tries once without waiting; returns whether the lock was taken.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not take():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


class LockFile:
    """An open lock file.

    Args:
        path: The file that the locks protect.

    Raises:
        OSError: The lock file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # A user who can write to the directory must not redirect us to another file, or block us with a named pipe.
        self._descriptor = open_regular(beside(path, END), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)

    def close(self) -> None:
        """Close the lock file, which releases the locks."""
        os.close(self._descriptor)

    @contextlib.contextmanager
    def replacing(self) -> Iterator[None]:
        """Prevent other processes from opening, repairing or writing the file during the block.

        Raises:
            StoreError: Another process did not finish doing so in time.
            OSError: The file system does not support locks.
        """
        with self._locked(fcntl.F_WRLCK):
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Prevent other processes from opening or repairing the file during the block; any number may write to it.

        Raises:
            StoreError: Another process did not finish opening or repairing it in time.
            OSError: The file system does not support locks.
        """
        with self._locked(fcntl.F_RDLCK):
            yield

    def hold(self) -> bool:
        """Hold the file until the lock file is closed, and return whether that was possible: one holder at a time.

        Raises:
            OSError: The file system does not support locks.
        """
        return self._take(fcntl.F_WRLCK, _HOLDING)

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        if not wait_for(functools.partial(self._take, kind, _REPLACING)):
            raise StoreError(
                f"{quoted(self._path)} is being opened or repaired by another process",
                "try again once that process has ended",
            )
        try:
            yield
        finally:
            self._take(fcntl.F_UNLCK, _REPLACING)

    def _take(self, kind: int, place: int) -> bool:
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, struct.pack(_FORMAT, kind, os.SEEK_SET, place, 1, 0))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True


def is_open_elsewhere(descriptor: int) -> bool:
    """Return whether another process has a database open; True if that cannot be found out.

    Args:
        descriptor: The descriptor of the database file.
    """
    request = struct.pack(_FORMAT, fcntl.F_WRLCK, os.SEEK_SET, _FIRST_SHARED_BYTE, _SHARED_BYTES, 0)
    try:
        kind = struct.unpack(_FORMAT, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request))[0]
    except OSError:
        return True
    return bool(kind != fcntl.F_UNLCK)


def lock_for_earlier_releases(descriptor: int) -> bool:
    """Lock a file as release 0.1.0 does, and return whether that was possible.

    The lock is taken with flock, which does not conflict with the record locks that SQLite takes on the same file.

    Args:
        descriptor: The descriptor of the file.

    Raises:
        OSError: The file system does not support locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
