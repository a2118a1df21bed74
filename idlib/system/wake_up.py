"""Wakes the main thread, also by signals."""

import contextlib
import select
import signal
import socket
from types import TracebackType
from typing import Final, Self

_PORTION_BYTES: Final = 4096


class WakeUp:
    """Lets the main thread wait until another thread, a signal handler or a signal wakes it; used in a `with` block.

    Python runs signal handlers only in the main thread, and only between two steps of its own code. If the system hands
    the signal to another thread, a wait for a lock or a queue goes on, and the handler never runs. So the main thread
    waits for a socket, to which Python writes at each signal.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        for one in (self._reader, self._writer):
            one.settimeout(0.0)

    def __enter__(self) -> Self:
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        self._reader.close()
        self._writer.close()

    def wake(self) -> None:
        """End the wait, or the next one if nothing waits; any thread and any signal handler may call this."""
        # It is full, so that the wait ends anyway; or it is closed, and nothing waits any more.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def wait(self, seconds: float | None) -> None:
        """Wait to be woken.

        Args:
            seconds: For how long at most; None for any time.
        """
        select.select((self._reader,), (), (), seconds)
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(_PORTION_BYTES):
                pass
