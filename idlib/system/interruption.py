"""Handles SIGTERM and Ctrl-C, also while a program imports its modules (most of a second on a small device).

It imports very little, because Ctrl-C prints a traceback until this module is imported.
"""

import os
import signal
from types import FrameType

# As in idlib.errors, which takes too long to import here.
_INTERRUPTED = 130


class Terminated(KeyboardInterrupt):
    """The process got SIGTERM; a KeyboardInterrupt, so that the clean-up is the same as after Ctrl-C."""


def end_when_interrupted() -> None:
    """Let SIGINT end the process with a line and status 130, without a traceback, until there is something to undo.

    If SIGINT is ignored, as in the background of a shell script, it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_when_interrupted() -> None:
    """Let SIGINT raise KeyboardInterrupt again, if `end_when_interrupted` has changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_when_terminated() -> None:
    """Let SIGTERM raise Terminated, once: a second one ends the process at once. If it is ignored, it stays so."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise_terminated)


def end_by_sigterm() -> None:
    """End the process by SIGTERM, so that its parent sees what ended it; return if it is the init of a container."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _raise_terminated(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(_INTERRUPTED)
