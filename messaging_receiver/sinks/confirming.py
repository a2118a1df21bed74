"""Prints each message as a JSON object, and delivers the next one once the reading program has confirmed it.

The contract with the reading program is in docs/automation.md, "Confirming messages".
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from idlib.errors import ConfirmationError
from messaging_receiver.ending import Ending
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.lines import json_line_of
from messaging_receiver.standard_output import StandardOutput

_LOG = logging.getLogger(__name__)

STDIN_DESCRIPTOR: Final = 0
# More digits than any number has.
MAX_LINE_BYTES: Final = 20
# The program may take any time; after this long, `--health` says what the receiver waits for.
SLOW_SECONDS: Final = 300.0
_READ_BYTES: Final = 4096
_POLL_SECONDS: Final = 0.25
_GRACE_SECONDS: Final = 1.0


class Confirming:
    """A sink whose reader confirms each message: one at a time is on its way.

    Args:
        stdout: Prints the objects.
        ending: Told if stdin is closed, or has something other than the number of the message printed last.
        stopping: Set to stop the receiver; a confirmation is then awaited for at most one more second.
        note_movement: Called while a confirmation is awaited, because the calling thread is not stuck.
        descriptor: The file descriptor of stdin.
    """

    def __init__(
        self,
        stdout: StandardOutput,
        ending: Ending,
        stopping: threading.Event,
        note_movement: Callable[[], None],
        descriptor: int = STDIN_DESCRIPTOR,
    ) -> None:
        self._stdout = stdout
        self._ending = ending
        self._stopping = stopping
        self._note_movement = note_movement
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._number = 0
        self._is_awaited = False
        self._awaited_since: float | None = None
        self._is_stdin_open = True
        threading.Thread(target=self._read, name="Confirmations", daemon=True).start()

    @property
    def problem(self) -> str | None:
        """Whether stdout is not being read, or a message not confirmed."""
        since = self._awaited_since
        if since is not None and time.monotonic() - since >= SLOW_SECONDS:
            return f"message {self._number} has not been confirmed on stdin"
        return self._stdout.problem

    def check(self) -> None:
        """Check that stdout can be written.

        Raises:
            OutputError: Its reader has closed it.
        """
        self._stdout.check()

    def deliver(self, message: ReceivedMessage) -> Fate:
        """Print a message, and wait until it is confirmed.

        Args:
            message: The message.

        Raises:
            OutputError: Stdout cannot be written.
        """
        if self._stopping.is_set():
            return Fate.KEPT
        with self._changed:
            # Before it is printed, because the confirmation may come at once.
            self._number += 1
            self._is_awaited = True
        if not self._stdout.write(f"{json_line_of(message, self._number)}\n".encode()):
            return Fate.KEPT
        self._awaited_since = time.monotonic()
        is_confirmed = self._wait()
        self._awaited_since = None
        return Fate.DELIVERED if is_confirmed else Fate.KEPT

    def _wait(self) -> bool:
        give_up_at: float | None = None
        with self._changed:
            while self._is_awaited and self._is_stdin_open:
                self._note_movement()
                self._changed.wait(_POLL_SECONDS)
                if self._stopping.is_set():
                    give_up_at = give_up_at or time.monotonic() + _GRACE_SECONDS
                    if time.monotonic() >= give_up_at:
                        break
            return not self._is_awaited

    def _read(self) -> None:
        """Read numbers from stdin until it ends or has something else, and then stop the receiver."""
        rest, is_open = b"", True
        try:
            while is_open:
                octets = self._read_some()
                is_open = bool(octets)
                *lines, rest = (rest + octets).split(b"\n")
                for line in lines if is_open or not rest else [*lines, rest]:
                    self._confirm(line)
                if len(rest) > MAX_LINE_BYTES:
                    self._confirm(rest)
        except ConfirmationError as error:
            self._ending.fail(error)
        else:
            _LOG.info("Stdin is closed: the receiver stops")
            self._ending.stop()
        with self._changed:
            self._is_stdin_open = False
            self._changed.notify_all()

    def _read_some(self) -> bytes:
        try:
            return os.read(self._descriptor, _READ_BYTES)
        except OSError:
            # As if it were at its end: whoever confirms is gone.
            return b""

    def _confirm(self, line: bytes) -> None:
        with self._changed:
            if self._is_awaited and line.strip() == b"%d" % self._number:
                self._is_awaited = False
                self._changed.notify_all()
                return
            expected = (
                f"the number {self._number}" if self._is_awaited else "nothing: no message waits for its confirmation"
            )
        raise ConfirmationError(
            f"stdin has {line[:MAX_LINE_BYTES]!r} in place of {expected}",
            "write the `number` of each object that was read from stdout, followed by a line break",
        )
