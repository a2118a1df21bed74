"""Runs the user's commands, with `sh` or without, and kills all that they have started if they take too long."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

_POLL_SECONDS: Final = 0.25
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
                _kill_all(process)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                # Without the cause, which quotes the command, and that may have a secret in it.
                raise TimeoutError from None
    return process.returncode


def run_without_shell(
    words: Sequence[str],
    stdin: bytes,
    environment: Mapping[str, str],
    seconds: float,
    is_wanted: Callable[[], bool],
) -> int | None:
    """Run a command, and return its exit status; negative for the signal that ended it.

    Its stdout is that of this process, and so is its stderr, unless LOG_FORMAT=json makes each line of it an object.
    What it leaves running when it ends by itself goes on running.

    Args:
        words: The command and its arguments.
        stdin: Its input, which it need not read.
        environment: All of its environment variables.
        seconds: How long it may take.
        is_wanted: Called four times a second; once it returns False, the command is killed with all that it has
            started, and the result is None.

    Raises:
        TimeoutError: It took longer, and was killed with all that it had started.
        OSError: It cannot be started.
    """
    with _descriptor_of_stderr() as stderr:
        with _file_in_memory(stdin) as file:
            process = subprocess.Popen(list(words), stdin=file, stderr=stderr, env=environment, start_new_session=True)
        with process:
            try:
                status = _wait(process, time.monotonic() + seconds, is_wanted)
            except BaseException:
                _kill_all(process)
                raise
            if status is None:
                _kill_all(process)
    return status


@contextlib.contextmanager
def _file_in_memory(content: bytes) -> Iterator[int]:
    """Yield a descriptor to read the content from; unlike a pipe, it has no writer that a slow reader could block."""
    file = os.memfd_create("stdin")
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


def _wait(process: "subprocess.Popen[bytes]", end: float, is_wanted: Callable[[], bool]) -> int | None:
    """Return the exit status of a process once it ends, or None if it is not wanted any more."""
    while is_wanted():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))
        if time.monotonic() >= end:
            raise TimeoutError
    return None


def _kill_all(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    # The command alone would leave behind what it has started. One that runs as another user, as with sudo, may not be
    # killed: the caller waits until it ends.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


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
