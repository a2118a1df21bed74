"""Ctrl-C while a program still imports its modules, which takes most of a second on a small device.

It imports next to nothing, for as long as it is imported itself Ctrl-C shows a traceback.
"""

import os
import signal
from types import FrameType

# As in idlib.errors, whose own import is one of those that take long.
_INTERRUPTED = 130


def end_when_interrupted() -> None:
    """Let SIGINT end the process with a line and status 130, without a traceback, until there is something to undo.

    Where it is ignored, as in the background of a shell script, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_when_interrupted() -> None:
    """Let SIGINT raise KeyboardInterrupt again, where `end_when_interrupted` has changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(_INTERRUPTED)
