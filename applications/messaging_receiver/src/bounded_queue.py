"""A queue bounded by the number and by the octets of what stands in it, so that large messages take no more memory."""

import queue
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class BoundedQueue(queue.Queue[T]):
    """A queue whose `put` waits while it holds too much.

    Args:
        items: How many at most.
        octets: How many octets at most; the last item may go beyond.
        size_of: Tells how many octets an item has.
    """

    def __init__(self, items: int, octets: int, size_of: Callable[[T], int]) -> None:
        super().__init__(items)
        self._octets = 0
        self._max_octets = octets
        self._size_of = size_of

    def qsize(self) -> int:
        """Return how many items stand in the queue."""
        with self.mutex:
            return len(self.queue)

    def _qsize(self) -> int:
        # By this the parent class decides whether there is room: none where the octets are used up.
        return self.maxsize if self._octets >= self._max_octets else len(self.queue)

    def _put(self, item: T) -> None:
        super()._put(item)
        self._octets += self._size_of(item)

    def _get(self) -> T:
        item: T = super()._get()
        self._octets -= self._size_of(item)
        return item
