"""Writes to stdout without a buffer or a lock, so that the receiver can stop even if its output is not being read."""

import errno
import logging
import os
import select
import stat
import threading
import time
from typing import Final

from idlib.errors import OutputError

_LOG = logging.getLogger(__name__)

STDOUT_DESCRIPTOR: Final = 1
# A pipe that is ready for writing accepts up to this size in one write.
_PORTION_BYTES: Final = select.PIPE_BUF
_POLL_MILLISECONDS: Final = 250
_BLOCKED_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 1.0


class StandardOutput:
    """Writes bytes to stdout, and waits while its reader does not read.

    Args:
        stopping: Set to stop the receiver; `write` then waits for the reader for at most one more second.
        descriptor: The file descriptor to write to; tests use another one than stdout's.
    """

    def __init__(self, stopping: threading.Event, descriptor: int = STDOUT_DESCRIPTOR) -> None:
        self._stopping = stopping
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        # Only a pipe shows that its reader is gone: a terminal that is hung up may be opened again.
        self._is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._waits_since: float | None = None
        self._is_logged = False

    @property
    def is_blocked(self) -> bool:
        """Whether the output has not been read for at least 5 s."""
        waits_since = self._waits_since
        return waits_since is not None and time.monotonic() - waits_since >= _BLOCKED_SECONDS

    @property
    def problem(self) -> str | None:
        """What is wrong with stdout, for `--health`; None if nothing is."""
        return "stdout is not being read" if self.is_blocked else None

    def check(self) -> None:
        """Check that a pipe still has a reader; called by any thread.

        Raises:
            OutputError: Its reader has closed it, as `head` does when it has enough.
        """
        if self._is_pipe:
            poll = select.poll()
            poll.register(self._descriptor, 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                raise _output_error(os.strerror(errno.EPIPE))

    def write(self, lines: bytes) -> bool:
        """Write all bytes and return True; return False if the receiver stops and the output is not being read.

        Args:
            lines: One or more whole lines.

        Raises:
            OutputError: The reader has closed stdout, or stdout cannot be written.
        """
        start = 0
        give_up_at: float | None = None
        while start < len(lines):
            if self._is_ready():
                self._note_ready()
                start += self._write_portion(lines[start : _end_of_portion(lines, start)])
                continue
            self._note_blocked()
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
            # Stdout was passed to us as non-blocking, and another process has filled the pipe.
            return 0
        except OSError as error:
            raise _output_error(error.strerror) from error

    def _note_blocked(self) -> None:
        if self._waits_since is None:
            self._waits_since = time.monotonic()
        elif self.is_blocked and not self._is_logged:
            self._is_logged = True
            _LOG.warning("Stdout is not being read: messages wait until it is")

    def _note_ready(self) -> None:
        if self._is_logged:
            _LOG.info("Stdout is being read again")
        self._waits_since, self._is_logged = None, False


def _output_error(reason: str | None) -> OutputError:
    return OutputError(f"stdout cannot be written: {reason}", "messages are kept until the receiver is started again")


def _end_of_portion(lines: bytes, start: int) -> int:
    """Return where to end the next write: after a line if possible, because a kill between two writes splits a line."""
    return lines.rfind(b"\n", start, start + _PORTION_BYTES) + 1 or start + _PORTION_BYTES
