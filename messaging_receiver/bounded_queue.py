"""A queue bounded by the number and the size of its items, in which urgent items come first."""

import queue
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class BoundedQueue(queue.Queue[T]):
    """A queue whose `put` waits while the queue holds too much.

    Args:
        items: How many at most.
        size: How many bytes at most; the last item may exceed it.
        size_of: Tells how many bytes an item has.
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
        """Put an item before all that are not urgent; never waits, so the caller bounds their number.

        Args:
            item: What to put.
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
        # The parent class decides by this whether there is room: none if the bytes are used up.
        return self.maxsize if self._size >= self._max_size else len(self.queue)

    def _put(self, item: T) -> None:
        super()._put(item)
        self._size += self._size_of(item)

    def _get(self) -> T:
        item: T = super()._get()
        self._size -= self._size_of(item)
        self._urgent = max(0, self._urgent - 1)
        return item
