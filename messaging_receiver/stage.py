"""How a stage takes messages from a queue, hands them on, and refuses them."""

import logging
import queue
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from idlib.errors import Reason, Refusal, StoreError
from idlib.storage import ReplayEntry
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.context import Context
from messaging_receiver.queue_items import AuthenticatedMessage, Origin, SettledMessage

_LOG = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
# A stage without work notes this often that it is active; closing the queues ends the wait.
IDLE_SECONDS: Final = 10.0
T = TypeVar("T")
Handed = TypeVar("Handed")


class Stage(Generic[T]):
    """One of the stages between the broker and stdout.

    Args:
        context: What the stages share.
        source: The queue from which it takes messages.
        finished: The queue to the Forwarder, which finishes every message in order.
    """

    def __init__(
        self,
        context: Context,
        source: "BoundedQueue[T]",
        finished: "BoundedQueue[AuthenticatedMessage | SettledMessage]",
    ) -> None:
        self.context = context
        self._source = source
        self._finished = finished

    def take(self, seconds: float = IDLE_SECONDS) -> T | None:
        """Return the next message, or None if there is none.

        Args:
            seconds: How long to wait for one.
        """
        self.context.movements.note()
        try:
            return self._source.get(timeout=seconds) if seconds > 0 else self._source.get_nowait()
        except queue.Empty:
            return None

    def take_all(self, most: int, size: int, seconds: float) -> tuple[int, list[T]]:
        """Return how many messages were taken before, and the next messages; no messages if there are none.

        Args:
            most: How many messages to return at most.
            size: After how many bytes to stop; the last message may exceed it.
            seconds: How long to wait for the first one.
        """
        self.context.movements.note()
        return self._source.take(most, size, seconds)

    def hand_on(self, item: Handed, target: "queue.Queue[Handed]") -> None:
        """Put an item into a queue, and wait for room; if the receiver stops, drop it: the broker delivers it again.

        Args:
            item: The item for the queue.
            target: One of the three queues.
        """
        while not self.context.stopping.is_set():
            self.context.movements.note()
            try:
                target.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def hand_on_all(self, items: Sequence[Handed], target: "BoundedQueue[Handed]") -> None:
        """Put items into a queue, as `hand_on` does with one.

        Args:
            items: The items for the queue, in their order.
            target: One of the three queues.
        """
        rest = items
        while rest and not self.context.stopping.is_set():
            self.context.movements.note()
            rest = rest[target.put_all(rest, POLL_SECONDS) :]

    def finish(self, item: AuthenticatedMessage | SettledMessage) -> None:
        """Hand a message on to the Forwarder.

        Args:
            item: A message to print, or one to acknowledge or remove only.
        """
        self.hand_on(item, self._finished)

    def finish_all(self, items: Sequence[AuthenticatedMessage | SettledMessage]) -> None:
        """Hand messages on to the Forwarder.

        Args:
            items: Messages to print, or to acknowledge or remove only, in their order.
        """
        self.hand_on_all(items, self._finished)

    def refuse(self, origin: Origin, reason: Reason, fact: str, copy_of: ReplayEntry | None = None) -> None:
        """Count and log a refusal, and have the message acknowledged in its turn.

        Args:
            origin: Where the message came from.
            reason: The stable code.
            fact: What is wrong with the message.
            copy_of: The entry for the replay memory of the message that it is a copy of; None if it is not a copy.
        """
        self.context.refusals.note(reason, fact)
        self.finish(SettledMessage(origin, copy_of))

    def attempt(self, origin: Origin, step: Callable[[], None]) -> None:
        """Run one step for one message; if it fails, refuse the message and continue.

        Args:
            origin: Where the message came from.
            step: Hands the message on, or raises an error if it cannot.
        """
        try:
            step()
        except Refusal as refusal:
            self.refuse(origin, refusal.reason, refusal.fact)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  # one message's error must not stop the others
            _LOG.exception("Internal error while processing a message")
            self.refuse(origin, Reason.INTERNAL_ERROR, "internal error while processing the message")
