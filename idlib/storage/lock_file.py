"""A file beside another that processes lock before they use that one: unlike the other, it is never replaced.

The locks are of open files, so that they belong neither to a whole process nor to the threads of it, and they end with
whoever holds them, however that ends: https://www.gnu.org/software/libc/manual/html_node/Open-File-Description-Locks.html
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
# Whoever has a file open in WAL mode shares a lock on these bytes of it: https://www.sqlite.org/src/file/src/os.h
_FIRST_SHARED_BYTE: Final = 0x40000002
_SHARED_BYTES: Final = 510


def wait_for(take: Callable[[], bool]) -> bool:
    """Try to take a lock until that is possible, and return whether it was within 10 seconds.

    Args:
        take: Tries once and does not wait; returns whether it was possible.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not take():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


class LockFile:
    """The file, open.

    Args:
        path: The file that is used under its locks.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Who can write to the directory must not lead us to another file, nor let us wait for a writer of a pipe.
        self._descriptor = open_regular(beside(path, END), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)

    def close(self) -> None:
        """Close it, which ends the locks."""
        os.close(self._descriptor)

    @contextlib.contextmanager
    def replacing(self) -> Iterator[None]:
        """Let nobody else open, repair or write the file meanwhile.

        Raises:
            StoreError: Another process has been doing so for too long.
            OSError: The file system has no locks.
        """
        with self._locked(fcntl.F_WRLCK):
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Let nobody open or repair the file meanwhile; any number of processes may write it.

        Raises:
            StoreError: Another process has been opening or repairing it for too long.
            OSError: The file system has no locks.
        """
        with self._locked(fcntl.F_RDLCK):
            yield

    def hold(self) -> bool:
        """Hold the file until this one is closed, and return whether that was possible: one at a time can.

        Raises:
            OSError: The file system has no locks.
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
    """Return whether another process has a database open, or may have.

    Args:
        descriptor: Of the file.
    """
    request = struct.pack(_FORMAT, fcntl.F_WRLCK, os.SEEK_SET, _FIRST_SHARED_BYTE, _SHARED_BYTES, 0)
    try:
        kind = struct.unpack(_FORMAT, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request))[0]
    except OSError:
        return True
    return bool(kind != fcntl.F_UNLCK)


def lock_for_earlier_releases(descriptor: int) -> bool:
    """Lock a file as release 0.1.0 does, and return whether that was possible.

    Unlike the record locks that SQLite takes on the same file, flock does not meet those.

    Args:
        descriptor: Of the file.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
