"""balena's update lock: while its file exists, a device's supervisor neither updates nor restarts the services.

https://docs.balena.io/learn/deploy/release-strategy/update-locking/
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

PATH: Final = Path("/tmp/balena/updates.lock")  # noqa: S108  # made by the supervisor, and not there without one
PATIENCE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.05
_OUR_MARK: Final = b"idlib is writing keys\n"


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Prevent updates while something is written; continue without the lock if it cannot be taken.

    The lock only prevents an update in the middle of writing, so this neither fails nor waits for long.

    Args:
        path: The path of the lock, usually `PATH`; one writer at a time.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = _take(path, time.monotonic() + PATIENCE_SECONDS)
            if descriptor is not None:
                stack.callback(os.close, descriptor)
                stack.callback(_remove, path, descriptor)
                # The file itself stops the supervisor; an update of the host checks this lock.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def remove_leftover(path: Path) -> None:
    """Remove the lock of a writer that was killed, which would prevent updates until the device restarts.

    Args:
        path: The path of the lock, usually `PATH`; no program of this library may be writing.
    """
    with suppress(OSError):
        if _is_ours(path):
            path.unlink()


def _remove(path: Path, descriptor: int) -> None:
    with suppress(OSError):
        if os.path.samestat(path.lstat(), os.fstat(descriptor)):
            path.unlink()


def _take(path: Path, deadline: float) -> int | None:
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            if _is_ours(path):
                path.unlink(missing_ok=True)
            elif path.lstat().st_uid == os.geteuid() or time.monotonic() >= deadline:
                return None  # the user's lock, or another one that stays
            else:
                time.sleep(_PAUSE_SECONDS)  # the supervisor's, just before it ends us
        else:
            os.write(descriptor, _OUR_MARK)
            return descriptor


def _is_ours(path: Path) -> bool:
    """Return whether a lock was made by a program of this library under this user.

    Other users may write to the lock's directory, so a link is not followed, and opening a named pipe does not wait.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        return False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return False
        return file.read(len(_OUR_MARK) + 1) == _OUR_MARK
