"""The queues between the stages limit the number and the total size of their items."""

import queue

import pytest

from messaging_receiver.bounded_queue import BoundedQueue


@pytest.fixture
def bounded() -> BoundedQueue[bytes]:
    return BoundedQueue(3, 100, len)


def test_put_waits_when_the_number_of_items_is_reached(bounded: BoundedQueue[bytes]) -> None:
    for _ in range(3):
        bounded.put_nowait(b"x")
    with pytest.raises(queue.Full):
        bounded.put_nowait(b"x")
    assert bounded.qsize() == 3


def test_put_waits_when_the_number_of_bytes_is_reached(bounded: BoundedQueue[bytes]) -> None:
    bounded.put_nowait(bytes(60))
    bounded.put_nowait(bytes(60))
    with pytest.raises(queue.Full):
        bounded.put(b"x", timeout=0.01)
    assert bounded.qsize() == 2
    assert len(bounded.get_nowait()) == 60
    bounded.put_nowait(b"x")


def test_an_item_larger_than_the_limit_is_accepted_if_the_queue_is_empty(bounded: BoundedQueue[bytes]) -> None:
    bounded.put_nowait(bytes(1000))
    with pytest.raises(queue.Full):
        bounded.put_nowait(b"")
    assert len(bounded.get_nowait()) == 1000
    with pytest.raises(queue.Empty):
        bounded.get_nowait()
