"""Stdout, written without a buffer and without a lock, so that nobody who does not read it can hold the receiver up."""

import logging
import os
import select
import threading
import time
from typing import Final

from idlib.errors import OutputError

_LOG = logging.getLogger(__name__)

STDOUT_DESCRIPTOR: Final = 1
# Of this size and below a pipe that can be written takes all at once.
_PORTION_OCTETS: Final = select.PIPE_BUF
_POLL_MILLISECONDS: Final = 250
_BLOCKED_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 1.0


class StandardOutput:
    """Writes octets to stdout and waits for whoever reads it.

    Args:
        stopping: Set when the receiver is told to stop; the reader is waited for one second more then.
        descriptor: Another than stdout's, in a test.
    """

    def __init__(self, stopping: threading.Event, descriptor: int = STDOUT_DESCRIPTOR) -> None:
        self._stopping = stopping
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._waits_since: float | None = None
        self._is_logged = False

    @property
    def is_blocked(self) -> bool:
        """Whether nobody has read for some time what is written."""
        waits_since = self._waits_since
        return waits_since is not None and time.monotonic() - waits_since >= _BLOCKED_SECONDS

    def write(self, octets: bytes) -> bool:
        """Write all, and return True; or return False where the receiver stops and nobody reads.

        Args:
            octets: One or more whole lines.

        Raises:
            OutputError: Stdout is closed at its other end, or cannot be written.
        """
        start = 0
        give_up_at: float | None = None
        while start < len(octets):
            if self._is_ready():
                self._went_on()
                start += self._write_portion(octets[start : _end_of_portion(octets, start)])
                continue
            self._waited()
            if self._stopping.is_set():
                give_up_at = give_up_at or time.monotonic() + _GRACE_SECONDS
                if time.monotonic() >= give_up_at:
                    return False
        return True

    def _is_ready(self) -> bool:
        return bool(self._poll.poll(_POLL_MILLISECONDS))

    def _write_portion(self, portion: bytes) -> int:
        try:
            return os.write(self._descriptor, portion)
        except BlockingIOError:
            # Whoever gave us stdout has made it non-blocking, and another writer has taken the room.
            return 0
        except OSError as error:
            raise OutputError(
                f"stdout cannot be written: {error.strerror}", "messages are kept until the receiver is started again"
            ) from error

    def _waited(self) -> None:
        if self._waits_since is None:
            self._waits_since = time.monotonic()
        elif self.is_blocked and not self._is_logged:
            self._is_logged = True
            _LOG.warning("Stdout is not being read: messages wait until it is")

    def _went_on(self) -> None:
        if self._is_logged:
            _LOG.info("Stdout is read again")
        self._waits_since, self._is_logged = None, False


def _end_of_portion(octets: bytes, start: int) -> int:
    """Return where to stop, at the end of a line where there is one, for a kill between two writes tears a line."""
    return octets.rfind(b"\n", start, start + _PORTION_OCTETS) + 1 or start + _PORTION_OCTETS
