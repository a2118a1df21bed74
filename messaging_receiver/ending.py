"""How the receiver ends: it is stopped by a signal, or by itself after enough messages, enough time, or an error."""

import contextlib
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from idlib.errors import ExitStatus, IdlibError, StoreError
from idlib.system.wake_up import WakeUp

_LOG = logging.getLogger("messaging_receiver")

# The receiver promises to end within five seconds; the rest is for closing files and for the interpreter.
ORDERLY_SECONDS: Final = 4.0
_END_SECONDS: Final = 4.25
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
        # When the receiver began to end, by the monotonic clock.
        self._begun_at: float | None = None
        # Unlike an event, such a queue may be used by a signal handler that interrupts the thread that reads it, or
        # another handler.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        # Wakes the thread in `run`.
        self._wake: Callable[[], None] = _nothing

    def run(self, work: Callable[[], int]) -> int:
        """Run the receiver in another thread, and return its exit status; the signals are for the thread that calls.

        If it is to end, and a disk or a database holds it up, it is not waited for any longer: what the broker has
        acknowledged is stored, and it sends the rest again.

        Args:
            work: Runs the receiver; its errors are raised here.

        Raises:
            IdlibError: The receiver was stopped by this error.
        """
        result: Future[int] = Future()

        def run() -> None:
            try:
                result.set_result(self._status_of(work))
            except BaseException as error:  # noqa: BLE001  # raised again by the other thread
                result.set_exception(error)
            self._wake()

        with WakeUp() as wake_up:
            self._wake = wake_up.wake
            threading.Thread(target=run, name="Receiver", daemon=True).start()
            while not result.done():
                self._heed_signals()
                patience = None if self._begun_at is None else self._begun_at + _END_SECONDS - time.monotonic()
                if patience is not None and patience <= 0:
                    _LOG.warning("Stopped without waiting any longer: the disk or the database does not answer")
                    return self.status()
                wake_up.wait(patience)
        return result.result()

    def left(self, most: float) -> float:
        """Return how many seconds a step of the end may take: none once the time for all of them has passed.

        Args:
            most: How many seconds it may take at most.
        """
        self._begin()
        assert self._begun_at is not None  # noqa: S101  # just set
        return max(0.0, min(most, self._begun_at + ORDERLY_SECONDS - time.monotonic()))

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
            self.stop()

    def let_leave(self, leaving: threading.Event) -> None:
        """Let the receiver leave its group before it stops, if it is stopped by a signal or by its time.

        Args:
            leaving: Set instead of stopping the receiver, which then has to stop by itself; a second signal stops it.
        """
        self._leaving = leaving

    def stop(self) -> None:
        """Stop the receiver for no reason that changes its exit status."""
        self._begin()
        self.stopping.set()

    def interrupt(self, number: int) -> None:
        """Let `run` stop the receiver because of a signal; a signal handler may call this.

        Args:
            number: The signal's number.
        """
        self._signal = number
        self._signals.put(number)
        self._wake()

    def fail(self, error: IdlibError) -> None:
        """Stop the receiver because of an error; only the first error counts.

        Args:
            error: The error, which `status` raises.
        """
        with self._lock:
            self._error = self._error or error
        self.stop()

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

    def status_at_start(self) -> ExitStatus:
        """Return the exit status of a receiver that has been stopped before it connected to the broker, and log that.

        Raises:
            IdlibError: It was stopped by this error.
        """
        status = self.status()
        _LOG.info("Stopped before it has connected to the broker")
        return status

    def _status_of(self, work: Callable[[], int]) -> int:
        try:
            return work()
        except StoreError:
            if not self.stopping.is_set():
                raise
            # It was stopped while it waited for the store, which is not why it ends.
            _LOG.info("Stopped while it waited for the disk or the database")
            return self.status()

    def _begin(self) -> None:
        if self._begun_at is None:
            self._begun_at = time.monotonic()
            self._wake()

    def _heed_signals(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._signals.get_nowait()
                self._leave_or_stop()

    def _leave_or_stop(self) -> None:
        if self._leaving is None or self._leaving.is_set():
            self.stop()
        else:
            self._begin()
            self._leaving.set()

    def _is_fulfilled(self) -> bool:
        if self._count is not None:
            return self._delivered >= self._count
        return self._seconds is None or self._delivered > 0


def _nothing() -> None:
    pass
