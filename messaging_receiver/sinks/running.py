"""Runs a command for each message, and sets a message aside if the command keeps failing.

The contract with the command is in docs/automation.md, "Running a command".
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from idlib.errors import quoted
from idlib.output import harmless, rfc3339
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.system.user_command import run_without_shell
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.setting_aside import SetAside, named

_LOG = logging.getLogger(__name__)

# After the first try and after the second one; there are three.
PAUSES_SECONDS: Final = (1.0, 4.0)
# While the command cannot be started.
SHORTEST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 1.0
_PREFIX: Final = "MESSAGE_"
# With these, systemd and the receiver talk about the service: they are not the command's.
_OF_THE_SERVICE: Final = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)


class Running:
    """A sink that runs a command with each message on its stdin, one at a time and in order.

    Args:
        words: The command and its arguments; nothing of a message is added to them.
        seconds: How long the command may take.
        set_aside: Keeps messages that it cannot process.
        stopping: Set to stop the receiver; the command may then go on for one more second.
        note_movement: Called while it runs, because the calling thread is not stuck.
    """

    def __init__(
        self,
        words: Sequence[str],
        seconds: float,
        set_aside: SetAside,
        stopping: threading.Event,
        note_movement: Callable[[], None],
    ) -> None:
        self._words = words
        self._seconds = seconds
        self._set_aside = set_aside
        self._stopping = stopping
        self._note_movement = note_movement
        self._outage = FailureLog(_LOG)
        self._give_up_at: float | None = None

    @property
    def problem(self) -> str | None:
        """Whether the command cannot be started."""
        return self._outage.cause

    def check(self) -> None:
        """Do nothing: a command that cannot be started is retried."""

    def deliver(self, message: ReceivedMessage) -> Fate:
        """Run the command, three times if it fails, and then set the message aside.

        Args:
            message: The message.
        """
        tries = len(PAUSES_SECONDS) + 1
        for number in range(1, tries + 1):
            failure = self._try(message, number)
            if failure is None:
                return Fate.KEPT
            if not failure:
                return Fate.DELIVERED
            _LOG.warning("Try %d of %d failed for the message %s: %s", number, tries, named(message), failure)
            if number < tries and self._stopping.wait(PAUSES_SECONDS[number - 1]):
                return Fate.KEPT
        return self._set_aside.keep(message)

    def _try(self, message: ReceivedMessage, number: int) -> str | None:
        """Run the command once; return how it failed, "" if it did not, and None if the receiver stops."""
        environment = environment_for(message, number, os.environ)
        pauses = Backoff(SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while not self._stopping.is_set():
            self._note_movement()
            try:
                status = run_without_shell(self._words, message.content, environment, self._seconds, self._may_go_on)
            except TimeoutError:
                return f"the command was killed after {self._seconds:g} s"
            except OSError as error:
                # Not the message's fault: it waits until the command can be started.
                self._outage.begin(f"The command {quoted(self._words[0])} cannot be started: {error.strerror}")
                self._pause(pauses.next_pause())
                continue
            self._outage.end()
            if status is None:
                return None
            if status < 0:
                return f"signal {-status} has ended the command"
            return f"the command ended with status {status}" if status else ""
        return None

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0 and not self._stopping.wait(min(rest, 10.0)):
            self._note_movement()

    def _may_go_on(self) -> bool:
        self._note_movement()
        if not self._stopping.is_set():
            return True
        self._give_up_at = self._give_up_at or time.monotonic() + _GRACE_SECONDS
        return time.monotonic() < self._give_up_at


def environment_for(message: ReceivedMessage, number: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the command.

    Args:
        message: The message.
        number: Which try it is.
        inherited: The environment of the receiver.
    """
    kept = {
        name: value for name, value in inherited.items() if not name.startswith(_PREFIX) and name not in _OF_THE_SERVICE
    }
    facts = {
        "SENDER": str(message.sender),
        "ID": harmless(message.identifier or ""),
        "SENT_AT": "" if message.sent_at is None else rfc3339(message.sent_at),
        "RECEIVED_AT": rfc3339(message.received_at),
        "SEALED": str(message.sealed_to),
        "CONTENT_TYPE": message.content_type or "",
        "FILE": "" if message.file is None else str(message.file),
        "TRY": str(number),
    }
    return {**kept, **{f"{_PREFIX}{name}": value for name, value in facts.items()}}
