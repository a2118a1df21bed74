"""What the Forwarder delivers messages to: stdout, or a command."""

from enum import Enum, auto
from typing import Protocol

from messaging_receiver.queue_items import ReceivedMessage


class Fate(Enum):
    """What became of a message."""

    # It is recorded and acknowledged, and its sender gets the receipt that it has asked for.
    DELIVERED = auto()
    # It is neither recorded nor acknowledged: the receiver is stopping, and gets the message again at its next start.
    KEPT = auto()
    # It cannot be delivered. It is recorded and acknowledged, but its sender gets no receipt.
    SET_ASIDE = auto()


class Sink(Protocol):
    """Where messages go; used by the Forwarder, one message at a time.

    A sink that fails for a reason that will pass retries until it succeeds or the receiver stops, and meanwhile shows
    the reason as its `problem`.
    """

    @property
    def problem(self) -> str | None:
        """Why messages are not delivered at present, for `--health`; None if they are."""

    def check(self) -> None:
        """Check that messages can still be delivered; called about once a second by another thread, must be quick.

        Raises:
            IdlibError: They cannot, and never will be: the receiver ends.
        """

    def deliver(self, message: ReceivedMessage) -> Fate:
        """Deliver a message, and return what became of it.

        Args:
            message: The message.

        Raises:
            IdlibError: Neither this message nor a later one can be delivered: the receiver ends.
        """
