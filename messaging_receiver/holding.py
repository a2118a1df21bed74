"""Messages that the Forwarder may not deliver yet, because another receiver has claimed copies of them."""

import math
import time
from collections.abc import Sequence
from typing import Final

from messaging_receiver.queue_items import AuthenticatedMessage, SettledMessage, size_of

HELD_AGAIN_SECONDS: Final = 0.5
# If more are held, the rest waits in the queues and at the broker.
MAX_HELD: Final = 256
MAX_HELD_BYTES: Final = 4 * 1024 * 1024


class Holding:
    """Held messages, each with its copies; used by one thread.

    If the connection that a held message came through is lost, the broker sends it again, and this copy is refused
    because the message is being processed. It is then all that the broker still has of the message, and a stored copy
    is all that the store has; so copies are finished only after the message.
    """

    def __init__(self) -> None:
        # By the identifier in the replay memory, as the replay guard recognizes copies.
        self._held: dict[bytes, list[AuthenticatedMessage | SettledMessage]] = {}
        self._ask_again_at = math.inf

    @property
    def ask_again_at(self) -> float:
        """When to claim the held messages again, on the monotonic clock."""
        return self._ask_again_at

    @property
    def room(self) -> int:
        """How many more messages can be held."""
        items = [item for each in self._held.values() for item in each]
        return 0 if sum(map(size_of, items)) >= MAX_HELD_BYTES else max(0, MAX_HELD - len(items))

    def hold(self, message: AuthenticatedMessage) -> None:
        """Keep a message, to be claimed again later.

        Args:
            message: It is neither delivered nor acknowledged.
        """
        self._held[message.printed.entry.identifier] = [message]
        self._ask_again_at = min(self._ask_again_at, time.monotonic() + HELD_AGAIN_SECONDS)

    def hold_copy(self, message: SettledMessage) -> bool:
        """Keep a copy of a held message together with that one; return whether it is such a copy.

        Args:
            message: A message that is not printed.
        """
        held = None if message.copy_of is None else self._held.get(message.copy_of.identifier)
        if held is None:
            return False
        held.append(message)
        return True

    def take_due(self) -> Sequence[AuthenticatedMessage | SettledMessage]:
        """Return the held messages if it is time to claim them again, each followed by its copies."""
        if time.monotonic() < self._ask_again_at:
            return ()
        due = [item for each in self._held.values() for item in each]
        self._held.clear()
        self._ask_again_at = math.inf
        return due
