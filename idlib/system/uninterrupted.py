"""Keeps SIGINT and SIGTERM from raising inside a block, where they would leave a lock held or a result uncounted."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

_LONGEST_DELAY_SECONDS: Final = 0.25


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the handlers of SIGINT and SIGTERM run after the block instead of inside it; a second signal acts at once.

    `threading.Condition` and what is built on it, such as `Future`, must not be used outside such a block by a main
    thread that expects these signals: an exception from a handler may leave its lock held.

    In other threads than the main one there is nothing to do, because Python runs no handlers there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {
        number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))
    }
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, handlers[signal.Signals(number)])
        arrived.append(number)

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def wait_interruptibly(wait: Callable[[float], bool], seconds: float) -> bool:
    """Wait in portions, between which a signal may raise; return whether the wait has succeeded.

    Args:
        wait: Waits at most the number of seconds given, and returns whether it has succeeded.
        seconds: How long to wait in all.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = max(0.0, deadline - time.monotonic())
        with uninterrupted():
            if wait(min(left, _LONGEST_DELAY_SECONDS)):
                return True
        if not left:
            return False
