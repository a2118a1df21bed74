"""A queue that limits the number and the total size of its items, and returns urgent items first."""

import queue
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class BoundedQueue(queue.Queue[T]):
    """A queue whose `put` waits while the queue is full.

    Args:
        items: The maximum number of items.
        size: The maximum number of bytes; the last item may exceed it.
        size_of: Returns the size of an item in bytes.
    """

    def __init__(self, items: int, size: int, size_of: Callable[[T], int]) -> None:
        super().__init__(items)
        self._size = 0
        self._max_size = size
        self._size_of = size_of
        self._urgent = 0

    def qsize(self) -> int:
        """Return how many items the queue holds."""
        with self.mutex:
            return len(self.queue)

    def put_urgent(self, item: T) -> None:
        """Put an item ahead of all items that are not urgent. Never waits, so the caller has to limit their number.

        Args:
            item: The urgent item.
        """
        with self.not_empty:
            self.queue.insert(self._urgent, item)
            self._urgent += 1
            self._size += self._size_of(item)
            self.unfinished_tasks += 1
            self.not_empty.notify()

    def get_urgent(self, seconds: float) -> T:
        """Return the next urgent item.

        Args:
            seconds: How long to wait for one.

        Raises:
            queue.Empty: There was none.
        """
        with self.not_empty:
            if not self.not_empty.wait_for(lambda: self._urgent > 0, seconds):
                raise queue.Empty
            return self._get()

    def _qsize(self) -> int:
        # The parent class compares this with `maxsize` to find out if the queue is full.
        return self.maxsize if self._size >= self._max_size else len(self.queue)

    def _put(self, item: T) -> None:
        super()._put(item)
        self._size += self._size_of(item)

    def _get(self) -> T:
        item: T = super()._get()
        self._size -= self._size_of(item)
        self._urgent = max(0, self._urgent - 1)
        return item
