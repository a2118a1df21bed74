"""How the receiver ends: it is stopped by a signal, or by itself after enough messages, enough time, or an error."""

import signal
import threading

from idlib.errors import ExitStatus, IdlibError

_STATUS_OF_SIGNAL = {signal.SIGINT: ExitStatus.INTERRUPTED, signal.SIGTERM: ExitStatus.TERMINATED}


class Ending:
    """Stops the receiver, and knows its exit status. Thread-safe.

    Args:
        stopping: Set to stop the receiver.
        count: After how many delivered messages it ends; None for no limit.
        seconds: After how many seconds it ends; None for no limit.
    """

    def __init__(self, stopping: threading.Event, count: int | None = None, seconds: float | None = None) -> None:
        self.stopping = stopping
        self._count = count
        self._seconds = seconds
        self._lock = threading.Lock()
        self._delivered = 0
        self._signal: int | None = None
        self._error: IdlibError | None = None
        self._leaving: threading.Event | None = None

    @property
    def remaining(self) -> int | None:
        """How many messages may still be delivered; None for no limit."""
        return None if self._count is None else self._count - self._delivered

    def start_timer(self) -> None:
        """Start to count the seconds, if they are limited."""
        if self._seconds is not None:
            timer = threading.Timer(self._seconds, self._leave_or_stop)
            timer.daemon = True
            timer.start()

    def note_delivered(self, number: int) -> None:
        """Note that messages were delivered, recorded and acknowledged; stop the receiver if there are enough.

        Args:
            number: How many.
        """
        self._delivered += number
        if self.remaining == 0:
            self.stopping.set()

    def let_leave(self, leaving: threading.Event) -> None:
        """Let the receiver leave its group before it stops, if it is stopped by a signal or by its time.

        Args:
            leaving: Set instead of stopping the receiver, which then has to stop by itself; a second signal stops it.
        """
        self._leaving = leaving

    def stop(self) -> None:
        """Stop the receiver for no reason that changes its exit status."""
        self.stopping.set()

    def interrupt(self, number: int) -> None:
        """Stop the receiver because of a signal.

        Args:
            number: The signal's number.
        """
        self._signal = number
        self._leave_or_stop()

    def fail(self, error: IdlibError) -> None:
        """Stop the receiver because of an error; only the first error counts.

        Args:
            error: The error, which `status` raises.
        """
        with self._lock:
            self._error = self._error or error
        self.stopping.set()

    def status(self) -> ExitStatus:
        """Return the exit status of a receiver that has been stopped.

        Raises:
            IdlibError: It was stopped by this error.
        """
        if self._error is not None:
            raise self._error
        if self._is_fulfilled():
            return ExitStatus.OK
        return ExitStatus.TOO_FEW_MESSAGES if self._signal is None else _STATUS_OF_SIGNAL[signal.Signals(self._signal)]

    def _leave_or_stop(self) -> None:
        if self._leaving is None or self._leaving.is_set():
            self.stopping.set()
        else:
            self._leaving.set()

    def _is_fulfilled(self) -> bool:
        if self._count is not None:
            return self._delivered >= self._count
        return self._seconds is None or self._delivered > 0
