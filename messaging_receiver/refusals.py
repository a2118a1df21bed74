"""Counting and logging refused messages."""

import logging

from idlib.errors import Reason
from idlib.system.log_limit import LimitedLog
from messaging_receiver.counters import Counters

_LOG = logging.getLogger(__name__)


class Refusals:
    """Counts every refusal, and logs as many as a log can take.

    Args:
        counters: Of the receiver.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._log = LimitedLog(_LOG)

    def note(self, reason: Reason, fact: str) -> None:
        """Count and log a refusal.

        Args:
            reason: The stable code.
            fact: What is wrong with the message.
        """
        self._counters.count_refused(reason)
        # Receipts are for programs that asked for them; that they arrive here, too, is as it should be.
        level = logging.INFO if reason is Reason.RECEIPT else logging.WARNING
        self._log.write(level, str(reason), "refused reason=%s %s", reason, fact)

    def note_waiting(self, sender: object, seconds: float, why: str) -> None:
        """Log that a sender's messages wait.

        Args:
            sender: Its name.
            seconds: Until they are tried again.
            why: What is wrong.
        """
        self._log.write(logging.WARNING, "waiting", "waiting sender=%s again in %.0f s: %s", sender, seconds, why)

    def note_unbound(self, sender: object) -> None:
        """Log that an unbound message is printed.

        Args:
            sender: Its name.
        """
        text = "unbound sender=%s the message could be passed on to other recipients"
        self._log.write(logging.INFO, "unbound", text, sender)

    def flush(self) -> None:
        """Log what was held back, as far as the rate allows."""
        self._log.flush()

    def finish(self) -> None:
        """Log what was held back, before the receiver ends."""
        self._log.finish()
