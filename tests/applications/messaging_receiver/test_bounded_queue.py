"""The queues between the stages limit the number and the total size of their items."""

import queue
import threading
import time

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


def test_many_items_are_taken_and_put_at_once(bounded: BoundedQueue[bytes]) -> None:
    assert bounded.put_all([b"1", b"2", b"3", b"4"], 0.01) == 3
    assert bounded.put_all([b"4"], 0.01) == 0
    assert bounded.take(2, 100, 0.0) == (0, [b"1", b"2"])
    assert bounded.put_all([b"4"], 0.01) == 1
    assert bounded.take(9, 100, 0.0) == (2, [b"3", b"4"])
    assert bounded.take(9, 100, 0.0) == (4, [])


def test_items_are_taken_up_to_a_size_and_at_least_one(bounded: BoundedQueue[bytes]) -> None:
    for _ in range(3):
        bounded.put_nowait(bytes(30))
    assert len(bounded.take(3, 31, 0.0)[1]) == 2
    assert len(bounded.take(3, 1, 0.0)[1]) == 1


def test_closing_ends_every_wait(bounded: BoundedQueue[bytes]) -> None:
    for _ in range(3):
        bounded.put_nowait(b"x")
    full = BoundedQueue[bytes](1, 1, len)
    full.put_nowait(b"x")
    empty = BoundedQueue[bytes](3, 100, len)
    ended: list[object] = []

    def get_urgent() -> None:
        with pytest.raises(queue.Empty):
            empty.get_urgent(60)
        ended.append("urgent")

    waits = [
        lambda: ended.append(empty.take(1, 1, 60)),
        lambda: ended.append(empty.take(1, 1, None)),
        lambda: ended.append(full.put_all([b"y"], 60)),
        get_urgent,
    ]
    threads = [threading.Thread(target=wait) for wait in waits]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    empty.close()
    full.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert ended.count((0, [])) == 2
    assert ended.count(0) == 1
    assert "urgent" in ended
    # What is in the queue can still be taken, and nothing waits any more.
    assert full.get(timeout=60) == b"x"
    with pytest.raises(queue.Empty):
        full.get(timeout=60)


def test_a_waiting_thread_gets_items_that_are_put_at_once() -> None:
    waiting = BoundedQueue[int](10, 100, lambda _: 1)
    taken: list[int] = []

    def take() -> None:
        while items := waiting.take(1, 100, 20)[1]:
            taken.extend(items)
            if len(taken) == 10:
                waiting.close()

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert waiting.put_all(range(5), 1) == 5
    assert waiting.put_all(range(5, 10), 1) == 5
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(taken) == list(range(10))
