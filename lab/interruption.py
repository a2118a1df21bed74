"""Handles signals that end a program: only the first raises, and none while something is being created."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def raise_when_signalled() -> None:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM and SIGHUP raise SystemExit; only the first signal raises.

    A signal that the program was started to ignore stays ignored.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_once)


def ignore_signals() -> None:
    """Ignore all these signals from now on, so that they do not interrupt the clean-up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Delay signals until the context is left, so that everything that is created is also removed.

    The signals are recorded, not blocked, because processes that are started in the context would inherit the block.
    """
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = {number: handler for number, handler in handlers.items() if callable(handler)}
    for each in handled:
        signal.signal(each, lambda number, _frame: arrived.append(number))
    try:
        yield
    finally:
        for each, handler in handled.items():
            signal.signal(each, handler)
        for number in arrived[:1]:
            signal.raise_signal(number)


@contextmanager
def ctrl_c_for_this_program_only() -> Iterator[None]:
    """Send Ctrl-C only to this program and the programs that it starts, not to make, which it would end.

    Ctrl-Z has no effect in the context: it would stop only this program, and the shell that waits for make would not
    notice.
    Without a terminal, or if this program was not started by another one in its foreground, nothing is changed.
    """
    group = os.getpgrp()
    try:
        is_shared = group != os.getpid() and os.tcgetpgrp(sys.stdin.fileno()) == group
    except OSError:
        is_shared = False
    if not is_shared:
        yield
        return
    stopping = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    os.setpgid(0, 0)
    _bring_to_foreground(os.getpid())
    try:
        yield
    finally:
        # Neither make nor the terminal may still exist.
        with suppress(OSError):
            os.setpgid(0, group)
            _bring_to_foreground(group)
        signal.signal(signal.SIGTSTP, stopping)


def _bring_to_foreground(group: int) -> None:
    # Otherwise the kernel stops a process that does this from the background.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        os.tcsetpgrp(sys.stdin.fileno(), group)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})


def _raise_once(number: int, _frame: FrameType | None) -> None:
    ignore_signals()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
