"""Runs command lines from settings, with `sh`, and ends all that they have started if they take too long."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Final

# Longer lines are written in parts.
_MAX_LINE_BYTES: Final = 4096
# What the command has left running may keep its output open.
_LAST_LINES_SECONDS: Final = 1.0


def run_user_command(command: str, stdin: str, environment: Mapping[str, str], seconds: float) -> int:
    """Run a command, and return its exit status; negative for the signal that ended it.

    What it prints goes to stderr, because stdout belongs to the program's own output; with LOG_FORMAT=json each line of
    it becomes an object.

    Args:
        command: A command line for `sh`.
        stdin: Its input.
        environment: All of its environment variables.
        seconds: How long it may take.

    Raises:
        TimeoutError: It took longer, and was killed with all that it had started.
        OSError: It cannot be started.
    """
    with _descriptor_of_stderr() as stderr:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            text=True,
            env=environment,
            start_new_session=True,
        )
        with process:
            try:
                process.communicate(stdin, timeout=seconds)
            except BaseException as error:
                # The shell alone would leave behind what it has started.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                # Without the cause, which quotes the command, and that may have a secret in it.
                raise TimeoutError from None
    return process.returncode


@contextlib.contextmanager
def _descriptor_of_stderr() -> Iterator[int]:
    """Yield where a command may write."""
    if not hasattr(sys.stderr, "write_object"):
        yield 2
        return
    reading, writing = os.pipe()
    copying = threading.Thread(target=_copy_lines, args=(reading,), name="Command-Output", daemon=True)
    copying.start()
    try:
        yield writing
    finally:
        os.close(writing)
        copying.join(_LAST_LINES_SECONDS)


def _copy_lines(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb") as output:
        while line := output.readline(_MAX_LINE_BYTES):
            sys.stderr.write(line.removesuffix(b"\n").decode(errors="replace") + "\n")
