import signal
import threading
from collections.abc import Iterator

import pytest

from idlib.system.wake_up import WakeUp


@pytest.fixture
def handled() -> Iterator[threading.Event]:
    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.set())
    yield handled
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_another_thread_gets_ends_the_wait(handled: threading.Event) -> None:
    """The system hands a signal for a process to any of its threads; a wait for a lock would not end."""

    def raise_signal() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    with WakeUp() as wake_up:
        timer = threading.Timer(0.2, raise_signal)
        timer.start()
        while not handled.is_set():
            wake_up.wait(None)
        timer.join()


def test_the_next_wait_ends_at_once_if_nothing_waited(handled: threading.Event) -> None:
    with WakeUp() as wake_up:
        for _ in range(100_000):
            wake_up.wake()
        wake_up.wait(None)
        wake_up.wait(0.0)
        threading.Timer(0.1, wake_up.wake).start()
        wake_up.wait(None)
    wake_up.wake()
    assert not handled.is_set()


def test_signals_wake_what_they_woke_before() -> None:
    with WakeUp() as outer, WakeUp():
        pass
    with WakeUp():
        assert signal.set_wakeup_fd(-1) != -1
    assert signal.set_wakeup_fd(-1) == -1
    outer.wake()
