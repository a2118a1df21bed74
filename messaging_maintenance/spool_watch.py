"""Notices when the receiver has left epoch records to publish, and decides when the next attempt is due.

It imports very little, because it stays in memory as long as the device runs.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

_FIRST_PAUSE_SECONDS: Final = 120.0
_LONGEST_PAUSE_SECONDS: Final = 3600.0
# As in idlib.settings and idlib.epochs.spool, which would need too much memory here.
_DEFAULT_SPOOL: Final = "/epoch-records"
_SUFFIX: Final = ".epochs"

# When and with which size a file was written, and which file it is.
_Version = tuple[int, int, int]


def spool_of(environment: Mapping[str, str]) -> str:
    """Return the path of the device's spool.

    Args:
        environment: With IDENTITY_NAME, and EPOCH_SPOOL if that is set; what is wrong is reported by the check.
    """
    name = environment.get("IDENTITY_NAME", "").removesuffix(".").lower()
    return os.path.join(os.path.expanduser(environment.get("EPOCH_SPOOL") or _DEFAULT_SPOOL), name + _SUFFIX)


class SpoolWatch:
    """What is known about a spool and the attempts to publish it.

    Args:
        path: The spool.
        pause: Returns a random pause of about a number of seconds.
        now: Returns a time in seconds that never goes back.
    """

    def __init__(self, path: str, pause: Callable[[float], float], now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._pause = pause
        self._now = now
        self._published: _Version | None = None
        self._tried: _Version | None = None
        self._seconds = _FIRST_PAUSE_SECONDS
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether the spool is to be published now; each time that it is, call `end` after the attempt."""
        version = self._version()
        if version is None or version == self._published:
            return False
        if version == self._tried and self._now() < self._next:
            return False
        if version != self._tried:
            self._seconds = _FIRST_PAUSE_SECONDS
        self._tried = version
        return True

    def end(self, *, is_published: bool) -> None:
        """Note what has become of an attempt.

        Args:
            is_published: Whether DNS has the records that the spool had when the attempt began.
        """
        if is_published:
            self._published, self._seconds = self._tried, _FIRST_PAUSE_SECONDS
            return
        self._next = self._now() + self._pause(self._seconds)
        self._seconds = min(2 * self._seconds, _LONGEST_PAUSE_SECONDS)

    def doubt(self) -> None:
        """Let the next attempt be due even if the spool has not changed: someone may have removed its records."""
        self._published = None

    def _version(self) -> _Version | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
