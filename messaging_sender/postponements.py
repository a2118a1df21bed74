"""Logs why messages to each recipient wait: once, when the reason changes, and then rarely."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from idlib.errors import IdlibError
from idlib.system.failure_log import FailureLog

# How many recipients have log lines of their own.
MAX_RECIPIENTS: Final = 1024


class Postponements:
    """Why messages to each recipient wait; used by any number of threads.

    Args:
        log: Receives the lines.
        clock: Seconds that never run backwards.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._of_recipient: dict[str, FailureLog] = {}
        self._of_others = FailureLog(log, clock)

    def __len__(self) -> int:
        """Return the number of recipients that are remembered."""
        return len(self._of_recipient)

    def begin(self, recipient: str, error: IdlibError) -> None:
        """Note that messages to a recipient wait.

        Args:
            recipient: The name.
            error: The reason.
        """
        outage = self._outage_of(recipient)
        if outage is None:
            self._of_others.begin("Messages to other recipients wait", f", including {recipient}: {error}")
        else:
            outage.begin(f"Messages to {recipient} wait: {error}")

    def end(self, recipient: str) -> None:
        """Note that a message to a recipient was delivered.

        Args:
            recipient: The name.
        """
        with self._lock:
            outage = self._of_recipient.get(recipient)
        if outage is not None:
            outage.end()

    def keep(self, recipients: Iterable[str]) -> None:
        """Forget all other recipients.

        Args:
            recipients: Those with queued messages.
        """
        with self._lock:
            for recipient in self._of_recipient.keys() - set(recipients):
                del self._of_recipient[recipient]

    def _outage_of(self, recipient: str) -> FailureLog | None:
        with self._lock:
            outage = self._of_recipient.get(recipient)
            if outage is None and self._has_room():
                outage = self._of_recipient[recipient] = FailureLog(self._log, self._clock)
            return outage

    def _has_room(self) -> bool:
        if len(self._of_recipient) < MAX_RECIPIENTS:
            return True
        over = next((recipient for recipient, outage in self._of_recipient.items() if outage.cause is None), None)
        if over is None:
            return False
        del self._of_recipient[over]
        return True
