"""Counting and logging refused messages."""

import logging

from idlib.errors import Reason
from idlib.system.log_limit import LimitedLog
from messaging_receiver.counters import Counters

_LOG = logging.getLogger(__name__)


class Refusals:
    """Counts every refusal, and logs refusals at a limited rate.

    Args:
        counters: The receiver's counters.
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
        # Receipts are meant for the programs that asked for them; it is normal that they arrive here, too.
        level = logging.INFO if reason is Reason.RECEIPT else logging.WARNING
        self._log.write(level, str(reason), "refused reason=%s %s", reason, fact, members={"reason": str(reason)})

    def note_waiting(self, sender: object, seconds: float, why: str) -> None:
        """Log that a sender's messages are deferred.

        Args:
            sender: The sender's name.
            seconds: The time until they are retried.
            why: The reason.
        """
        self._log.write(
            logging.WARNING,
            "waiting",
            "waiting sender=%s again in %.0f s: %s",
            sender,
            seconds,
            why,
            members={"sender": str(sender), "retry_seconds": round(seconds)},
        )

    def note_unwanted(self, sender: object) -> None:
        """Log that a sender's messages are stored for a later run.

        Args:
            sender: The sender's name.
        """
        self._log.write(logging.INFO, "unwanted", "waiting sender=%s for a later run: --from does not name it", sender)

    def note_unbound(self, sender: object) -> None:
        """Log that an unbound message is printed.

        Args:
            sender: The sender's name.
        """
        text = "unbound sender=%s the message could be passed on to other recipients"
        self._log.write(logging.INFO, "unbound", text, sender, members={"sender": str(sender)})

    def note_no_receipt(self, sender: object, why: str) -> None:
        """Log that a sender gets no receipt, because of the key that it would be encrypted to.

        Args:
            sender: The sender's name.
            why: The reason.
        """
        members = {"recipient": str(sender)}
        self._log.write(logging.WARNING, "no receipt", "No receipt to %s: %s", sender, why, members=members)

    def flush(self) -> None:
        """Log lines that were held back, as far as the rate allows."""
        self._log.flush()

    def finish(self) -> None:
        """Log all lines that were held back, before the receiver ends."""
        self._log.finish()
