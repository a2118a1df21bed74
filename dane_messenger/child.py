"""The process `dane-messenger receive` that receives for a Python program, which therefore has none of its keys.

It prints each message as a line of JSON, and waits until the program has confirmed it on its stdin. It stops when its
stdin is closed, which happens also if the program is killed.
"""

import collections
import contextlib
import io
import logging
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Final

from dane_messenger.library_log import LOG
from idlib.errors import (
    ConfigurationError,
    ExitStatus,
    IdlibError,
    ReceiverError,
    StoreError,
)

# Its parent is not the service manager, and reads its log as text.
_NOT_FOR_A_CHILD: Final = ("LOG_FORMAT", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
_LOG_LINE: Final = re.compile(r"\S+Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")
_ERROR: Final = "Error: "
_READ_BYTES: Final = 65536
# More than the receiver needs to stop.
_STOP_SECONDS: Final = 10.0
_MAX_LAST_WORDS: Final = 20


class Child:
    """A running receiver.

    Args:
        environment: Its settings.

    Raises:
        ReceiverError: It cannot be started.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        left = {name: value for name, value in environment.items() if name not in _NOT_FOR_A_CHILD}
        try:
            self._process = subprocess.Popen(
                # Not from the present directory, where anyone may have put a package of the same name.
                [sys.executable, "-P", "-m", "dane_messenger", "receive", "--confirm"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A signal handler may stop it while a line is written.
                bufsize=0,
                env=left,
                # Ctrl-C at a terminal is for the program, which then stops the receiver.
                process_group=0,
            )
        except OSError as error:
            raise ReceiverError(f"the receiver cannot be started: {error.strerror}") from error
        self._buffer = bytearray()
        # Lines that are not log lines: why it has ended.
        self._last_words: collections.deque[str] = collections.deque(maxlen=_MAX_LAST_WORDS)
        self._reading = threading.RLock()
        self._is_stopped = False
        self._log_reader = threading.Thread(target=self._read_log, name="Receiver-Log", daemon=True)
        self._log_reader.start()

    def read_line(self, timeout: float | None) -> bytes | None:
        """Return the next line of its stdout; None after `stop`.

        Args:
            timeout: How many seconds to wait for it; None for any time.

        Raises:
            TimeoutError: There was none.
            IdlibError: It has ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._reading:
            start = 0
            while (end := self._buffer.find(b"\n", start)) < 0:
                start = len(self._buffer)
                portion = self._read_portion(deadline)
                if self._is_stopped:
                    return None
                if not portion:
                    raise self._end()
                self._buffer += portion
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            return line

    def confirm(self, number: int) -> None:
        """Confirm a message.

        Args:
            number: Its number, from the line.

        Raises:
            IdlibError: It has ended, and the message comes again.
        """
        try:
            # So short that it is written as a whole.
            _open(self._process.stdin).write(b"%d\n" % number)
        except (OSError, ValueError) as error:
            if self._is_stopped:
                raise ReceiverError("the receiver is closed", "the message comes again") from error
            raise self._end() from error

    def stop(self) -> None:
        """Let it finish the message that is confirmed, and wait until it has ended."""
        self._is_stopped = True
        # It may have ended before it has read everything.
        with contextlib.suppress(OSError):
            _open(self._process.stdin).close()
        self._wait()
        with self._reading:
            _open(self._process.stdout).close()

    def _read_portion(self, deadline: float | None) -> bytes:
        stdout = _open(self._process.stdout)
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            raise TimeoutError("no message came in time")
        # A signal handler may have stopped it meanwhile.
        return b"" if self._is_stopped else os.read(stdout.fileno(), _READ_BYTES)

    def _end(self) -> IdlibError:
        """Return why it has ended."""
        status = self._wait()
        if status < 0:
            return ReceiverError(f"the receiver was ended by signal {-status}")
        words = list(self._last_words) or [f"the receiver ended with status {status}"]
        is_error = words[-1].startswith(_ERROR)
        if status == ExitStatus.CONFIGURATION and not is_error:
            return ConfigurationError(*words)
        fact, _, hint = words[-1].removeprefix(_ERROR).partition("; ")
        # With this status, all other errors of a receiver are about files in DATA_PATH.
        return StoreError(fact, hint) if status == ExitStatus.CONFIGURATION else ReceiverError(fact, hint)

    def _wait(self) -> int:
        try:
            status = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            LOG.error("The receiver did not stop within %g s and is killed", _STOP_SECONDS)
            self._process.kill()
            status = self._process.wait()
        self._log_reader.join(_STOP_SECONDS)
        return status

    def _read_log(self) -> None:
        with io.BufferedReader(_open(self._process.stderr)) as stderr:
            for octets in stderr:
                line = octets.decode(errors="backslashreplace").rstrip("\n")
                if match := _LOG_LINE.fullmatch(line):
                    LOG.log(logging.getLevelNamesMapping()[match[1]], "%s", match[2])
                else:
                    self._last_words.append(line)


def _open(pipe: IO[bytes] | None) -> io.FileIO:
    assert isinstance(pipe, io.FileIO)  # noqa: S101  # Popen opens all three without buffers
    return pipe
