"""The queues between the stages are bounded by items and by octets."""

import queue

import pytest

from messaging_receiver.bounded_queue import BoundedQueue


@pytest.fixture
def bounded() -> BoundedQueue[bytes]:
    return BoundedQueue(3, 100, len)


def test_it_takes_so_many_items(bounded: BoundedQueue[bytes]) -> None:
    for _ in range(3):
        bounded.put_nowait(b"x")
    with pytest.raises(queue.Full):
        bounded.put_nowait(b"x")
    assert bounded.qsize() == 3


def test_it_takes_so_many_octets_and_then_waits(bounded: BoundedQueue[bytes]) -> None:
    bounded.put_nowait(bytes(60))
    bounded.put_nowait(bytes(60))
    with pytest.raises(queue.Full):
        bounded.put(b"x", timeout=0.01)
    assert bounded.qsize() == 2
    assert len(bounded.get_nowait()) == 60
    bounded.put_nowait(b"x")


def test_an_item_above_the_bound_passes_alone(bounded: BoundedQueue[bytes]) -> None:
    bounded.put_nowait(bytes(1000))
    with pytest.raises(queue.Full):
        bounded.put_nowait(b"")
    assert len(bounded.get_nowait()) == 1000
    with pytest.raises(queue.Empty):
        bounded.get_nowait()
