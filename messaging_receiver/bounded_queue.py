"""A queue that limits the number and the total size of its items, and returns urgent items first."""

import queue
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

# How many messages a stage takes together, and after how many bytes it stops: a few of the longest ones.
BATCH_MESSAGES: Final = 32
BATCH_BYTES: Final = 524_288
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
        self._taken = 0
        self._is_closed = False

    def qsize(self) -> int:
        """Return how many items the queue holds."""
        with self.mutex:
            return len(self.queue)

    def close(self) -> None:
        """End all waiting for items or for room, now and later: the receiver stops."""
        with self.mutex:
            self._is_closed = True
            self.not_empty.notify_all()
            self.not_full.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> T:  # noqa: FBT001, FBT002  # as in the parent class
        """Return the next item.

        Args:
            block: Whether to wait for one.
            timeout: For how many seconds to wait; None for any time.

        Raises:
            queue.Empty: There was none.
        """
        _, items = self.take(1, 1, timeout if block else 0.0)
        if not items:
            raise queue.Empty
        return items[0]

    def take(self, most: int, size: int, seconds: float | None) -> tuple[int, list[T]]:
        """Return how many items were taken before, and the next items; no items if there are none.

        Args:
            most: How many items to return at most.
            size: After how many bytes to stop; the last item may exceed it.
            seconds: How long to wait for the first one; None for any time.
        """
        with self.not_empty:
            if seconds != 0.0:
                self.not_empty.wait_for(lambda: self.queue or self._is_closed, seconds)
            items: list[T] = []
            limit = self._size - size
            while self.queue and len(items) < most and (not items or self._size > limit):
                items.append(self._get())
            position, self._taken = self._taken, self._taken + len(items)
            if items:
                self.not_full.notify(len(items))
            return position, items

    def put_all(self, items: Sequence[T], seconds: float) -> int:
        """Put as many items as there is room for, at least one; return how many, or 0 if there was no room.

        Args:
            items: One or more items.
            seconds: How long to wait for room.
        """
        with self.not_full:
            self.not_full.wait_for(lambda: self._qsize() < self.maxsize or self._is_closed, seconds)
            number = 0
            for item in items:
                if self._qsize() >= self.maxsize:
                    break
                self._put(item)
                number += 1
            self.unfinished_tasks += number
            self.not_empty.notify(number)
            return number

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
            self.not_empty.wait_for(lambda: self._urgent > 0 or self._is_closed, seconds)
            if not self._urgent:
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
