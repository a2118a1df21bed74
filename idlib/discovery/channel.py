"""An encrypted path to a resolver: what `resolver` needs of it, and the errors of one that cannot be used."""

import time
from typing import Protocol


class ChannelError(OSError):
    """The resolver cannot be asked over its encrypted path, which is never replaced by one in clear text.

    Args:
        fault: What is wrong, as it follows the server's address in a sentence.
        hint: What the user can do about it.
    """

    def __init__(self, fault: str, hint: str) -> None:
        super().__init__(fault)
        self.fault = fault
        self.hint = hint


class LostConnectionError(ChannelError):
    """The server ended a connection, or does not answer on it; a new connection may work."""


class Channel(Protocol):
    """An encrypted path to one resolver; any number of threads may share it."""

    def new_identifier(self) -> int:
        """Return the ID for a query."""

    def exchange(self, query: bytes, deadline: float) -> bytes:
        """Return the bytes that the server answers to those of a query.

        Args:
            query: A whole DNS message.
            deadline: When to give up, as `time.monotonic` counts.

        Raises:
            ChannelError: There is no answer.
        """


def remaining(deadline: float) -> float:
    """Return the seconds until a deadline.

    Args:
        deadline: As `time.monotonic` counts.

    Raises:
        TimeoutError: It has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
