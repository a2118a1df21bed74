"""Signals that arrive in a block that must not be left half done."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from idlib.system.interruption import Terminated, raise_when_terminated
from idlib.system.uninterrupted import uninterrupted, wait_interruptibly


@pytest.fixture(autouse=True)
def kept_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    kept = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise_when_terminated()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, kept, strict=True):
        signal.signal(number, handler)


def _send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    # Python runs the handler before it calls the next function.
    threading.current_thread()


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_raises_after_the_block(number: signal.Signals, raised: type[BaseException]) -> None:
    done = []

    def run() -> None:
        with uninterrupted():
            _send(number)
            done.append("the rest of the block")
        done.append("more")

    with pytest.raises(raised):
        run()
    assert done == ["the rest of the block"]


def test_a_second_signal_raises_at_once() -> None:
    done = []

    def run() -> None:
        with uninterrupted():
            _send(signal.SIGINT)
            done.append("after the first")
            _send(signal.SIGINT)
            done.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["after the first"]


def test_an_inner_block_leaves_the_signal_to_the_outer_one() -> None:
    done = []

    def run() -> None:
        with uninterrupted():
            with uninterrupted():
                _send(signal.SIGTERM)
            done.append("the rest of the outer block")

    with pytest.raises(Terminated):
        run()
    assert done == ["the rest of the outer block"]


def test_the_handlers_are_the_same_after_the_block() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with uninterrupted():
        assert signal.getsignal(signal.SIGINT) is not handlers[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with uninterrupted():
        _send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_exception_of_the_block_comes_out_if_no_signal_arrives() -> None:
    with pytest.raises(ValueError, match="reason"), uninterrupted():
        raise ValueError("reason")


def test_other_threads_may_use_it() -> None:
    done = []

    def run() -> None:
        with uninterrupted():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]


def test_a_wait_ends_as_soon_as_it_succeeds() -> None:
    event = threading.Event()
    thread = threading.Timer(0.01, event.set)
    thread.start()
    assert wait_interruptibly(event.wait, 60)
    thread.join()


def test_a_wait_gives_up_in_the_end() -> None:
    assert not wait_interruptibly(threading.Event().wait, 0.3)


def test_a_signal_ends_a_wait_and_leaves_no_lock_held() -> None:
    event = threading.Event()
    thread = threading.Timer(0.05, _send, (signal.SIGTERM,))
    thread.start()
    with pytest.raises(Terminated):
        wait_interruptibly(event.wait, 60)
    thread.join()
    # It takes the event's lock.
    setter = threading.Thread(target=event.set)
    setter.start()
    setter.join(10)
    assert event.is_set()
