import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from idlib.errors import ExitStatus, OutputError, StoreError
from messaging_receiver import ending as ending_module
from messaging_receiver.ending import ORDERLY_SECONDS, Ending


def ended(*delivered: int, count: int | None = None, seconds: float | None = None) -> Ending:
    ending = Ending(threading.Event(), count, seconds)
    for number in delivered:
        ending.note_delivered(number)
    return ending


def run_until_interrupted(ending: Ending, event: threading.Event) -> None:
    """Run the receiver, send it a signal, and wait for what has to be set because of it."""

    def work() -> int:
        ending.interrupt(signal.SIGTERM)
        event.wait()
        return 0

    ending.run(work)


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (ended(), ExitStatus.OK),
        (ended(2, 1, count=3), ExitStatus.OK),
        (ended(2, count=3), ExitStatus.TOO_FEW_MESSAGES),
        (ended(2, count=3, seconds=1), ExitStatus.TOO_FEW_MESSAGES),
        (ended(3, count=3, seconds=1), ExitStatus.OK),
        (ended(seconds=1), ExitStatus.TOO_FEW_MESSAGES),
        (ended(0, 1, seconds=1), ExitStatus.OK),
    ],
)
def test_the_status_says_whether_enough_came(ending: Ending, status: ExitStatus) -> None:
    assert ending.status() is status


@pytest.mark.parametrize(
    ("count", "number", "status"),
    [
        (None, signal.SIGINT, ExitStatus.OK),
        (None, signal.SIGTERM, ExitStatus.OK),
        (1, signal.SIGINT, ExitStatus.INTERRUPTED),
        (1, signal.SIGTERM, ExitStatus.TERMINATED),
    ],
)
def test_a_signal_is_an_end_as_wanted_unless_more_was_to_come(
    count: int | None, number: int, status: ExitStatus
) -> None:
    ending = ended(count=count)
    ending.interrupt(number)
    assert ending.status() is status


def test_the_last_message_stops_the_receiver() -> None:
    stopping = threading.Event()
    ending = Ending(stopping, 3)
    ending.note_delivered(2)
    assert (ending.remaining, stopping.is_set()) == (1, False)
    ending.note_delivered(1)
    assert (ending.remaining, stopping.is_set()) == (0, True)


def test_the_time_stops_the_receiver() -> None:
    stopping = threading.Event()
    Ending(stopping, seconds=0.05).start_timer()
    assert stopping.wait(20)


def test_a_receiver_of_a_group_leaves_at_the_first_signal_and_stops_at_the_second() -> None:
    stopping, leaving = threading.Event(), threading.Event()
    ending = Ending(stopping)
    ending.let_leave(leaving)
    run_until_interrupted(ending, leaving)
    assert not stopping.is_set()
    run_until_interrupted(ending, stopping)


@pytest.mark.parametrize("is_error", [False, True])
def test_a_receiver_of_a_group_stops_without_leaving_when_it_can_deliver_no_more(*, is_error: bool) -> None:
    stopping, leaving = threading.Event(), threading.Event()
    ending = Ending(stopping, 3)
    ending.let_leave(leaving)
    if is_error:
        ending.fail(OutputError("stdout"))
    else:
        ending.note_delivered(3)
    assert (leaving.is_set(), stopping.is_set()) == (False, True)


def test_the_first_error_counts() -> None:
    stopping = threading.Event()
    ending = Ending(stopping)
    ending.fail(OutputError("first"))
    ending.fail(StoreError("second"))
    assert stopping.is_set()
    with pytest.raises(OutputError, match="first"):
        ending.status()


def test_each_step_of_the_end_gets_only_what_is_left_of_the_time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    ending = Ending(threading.Event())
    run_until_interrupted(ending, ending.stopping)
    assert ending.left(2.0) == 2.0
    now += 3.0
    assert ending.left(2.0) == ORDERLY_SECONDS - 3.0
    now += 60.0
    assert ending.left(2.0) == 0.0


def test_the_time_for_the_end_begins_with_the_signal_although_the_receiver_leaves_its_group_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    leaving = threading.Event()
    ending = Ending(threading.Event())
    ending.let_leave(leaving)
    run_until_interrupted(ending, leaving)
    now += 2.0
    ending.stop()
    assert ending.left(60.0) == ORDERLY_SECONDS - 2.0


def test_work_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(ending_module, "_END_SECONDS", 0.0)
    ending, never = Ending(threading.Event()), threading.Event()

    def work() -> int:
        ending.interrupt(signal.SIGTERM)
        never.wait()
        return 1

    assert ending.run(work) == ExitStatus.OK
    assert caplog.messages == ["Stopped without waiting any longer: the disk or the database does not answer"]
    never.set()


def test_a_receiver_that_is_stopped_while_it_waits_for_the_store_ends_as_wanted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ending = Ending(threading.Event())

    def work() -> int:
        ending.interrupt(signal.SIGTERM)
        ending.stopping.wait()
        raise StoreError("the database is away")

    assert ending.run(work) == ExitStatus.OK
    assert caplog.messages == ["Stopped while it waited for the disk or the database"]


@pytest.fixture
def on_signal() -> Iterator[Callable[[Ending], None]]:
    """Let a signal interrupt a receiver; the handler runs in the thread that waits."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_handler(ending: Ending) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: ending.interrupt(signal.SIGINT))

    yield set_handler
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_ends_the_wait_for_work(on_signal: Callable[[Ending], None]) -> None:
    ending = Ending(threading.Event())
    on_signal(ending)

    def work() -> int:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        ending.stopping.wait()
        return 0

    assert ending.run(work) == ExitStatus.OK


class _Interrupted(threading.Event):
    """An event in whose `set` the next signal arrives; its lock cannot be taken twice by one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._is_being_set = False
        self.was_set_within_itself = False

    def set(self) -> None:
        if self._is_being_set:
            self.was_set_within_itself = True
            return
        self._is_being_set = True
        if not self.is_set():
            signal.raise_signal(signal.SIGUSR1)
        self._is_being_set = False
        super().set()


def test_a_signal_that_arrives_while_the_one_before_is_handled_does_not_wait_for_it(
    on_signal: Callable[[Ending], None],
) -> None:
    stopping = _Interrupted()
    ending = Ending(stopping)
    on_signal(ending)

    def work() -> int:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        stopping.wait()
        return ending.status()

    assert ending.run(work) == ExitStatus.OK
    assert not stopping.was_set_within_itself


def test_the_error_of_the_work_is_raised() -> None:
    def work() -> int:
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        Ending(threading.Event()).run(work)


def test_the_status_of_the_work_is_returned() -> None:
    assert Ending(threading.Event()).run(lambda: 9) == 9
