"""A program confirms each message by writing its number."""

import json
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ConfirmationError, ExitStatus, OutputError
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.confirming import MAX_LINE_BYTES, SLOW_SECONDS, Confirming
from tests.applications.messaging_receiver.sinks.delivering import Delivery, Pipes, message, open_pipes, problem_of


def confirming(pipes: Pipes, note: Callable[[], None] = lambda: None) -> Confirming:
    return Confirming(pipes.stdout, pipes.ending, pipes.stopping, note, pipes.stdin)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    with open_pipes() as pipes:
        yield pipes


def test_a_message_is_delivered_once_its_number_comes_back(pipes: Pipes) -> None:
    sink = confirming(pipes)
    for number, answer in ((1, b"1\n"), (2, b" 2\r\n")):
        delivery = Delivery(sink, message(f"text {number}"))
        shown = json.loads(pipes.line())
        assert (shown["number"], shown["message"]) == (number, f"text {number}")
        assert not delivery.is_over
        os.write(pipes.answer, answer)
        assert delivery.wait() is Fate.DELIVERED
    assert not pipes.stopping.is_set()


def test_a_number_may_come_in_parts(pipes: Pipes) -> None:
    sink = confirming(pipes)
    for _ in range(9):
        delivery = Delivery(sink, message())
        os.write(pipes.answer, b"%d\n" % json.loads(pipes.line())["number"])
        delivery.wait()
    delivery = Delivery(sink, message())
    pipes.line()
    os.write(pipes.answer, b"1")
    os.write(pipes.answer, b"0\n")
    assert delivery.wait() is Fate.DELIVERED


def test_a_last_number_without_a_line_break_counts(pipes: Pipes) -> None:
    delivery = Delivery(confirming(pipes), message())
    pipes.line()
    os.write(pipes.answer, b"1")
    os.close(pipes.answer)
    assert delivery.wait() is Fate.DELIVERED
    assert pipes.stopping.wait(20)
    assert pipes.ending.status() is ExitStatus.OK


def test_the_end_of_stdin_stops_the_receiver_and_keeps_the_message(pipes: Pipes) -> None:
    delivery = Delivery(confirming(pipes), message())
    pipes.line()
    os.close(pipes.answer)
    assert pipes.stopping.wait(20)
    assert delivery.wait() is Fate.KEPT
    assert pipes.ending.status() is ExitStatus.OK


def test_a_message_that_is_not_confirmed_before_the_stop_is_kept(pipes: Pipes) -> None:
    sink = confirming(pipes)
    delivery = Delivery(sink, message())
    pipes.line()
    pipes.stopping.set()
    assert delivery.wait() is Fate.KEPT
    # Nothing more is printed.
    assert sink.deliver(message()) is Fate.KEPT
    os.set_blocking(pipes.printed, False)
    with pytest.raises(BlockingIOError):
        pipes.line()


@given(st.binary(min_size=1, max_size=2 * MAX_LINE_BYTES))
def test_anything_else_ends_the_receiver_with_one_line(octets: bytes) -> None:
    line = octets.replace(b"\n", b"?")
    with open_pipes() as pipes:
        delivery = Delivery(confirming(pipes), message())
        pipes.line()
        os.write(pipes.answer, (b"x" if line.strip() == b"1" else line) + b"\n")
        assert pipes.stopping.wait(20)
        with pytest.raises(ConfirmationError) as caught:
            pipes.ending.status()
        pipes.stopping.set()
        assert delivery.wait() is Fate.KEPT
    assert caught.value.exit_status is ExitStatus.USAGE
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("answer", [b"1\n1\n", b"2\n", b"\n", b"-1\n", b"9" * 21])
def test_a_wrong_number_ends_the_receiver(answer: bytes, pipes: Pipes) -> None:
    delivery = Delivery(confirming(pipes), message())
    pipes.line()
    os.write(pipes.answer, answer)
    assert pipes.stopping.wait(20)
    with pytest.raises(ConfirmationError, match=r"in place of"):
        pipes.ending.status()
    delivery.wait()


def test_a_number_before_any_message_ends_the_receiver(pipes: Pipes) -> None:
    confirming(pipes)
    os.write(pipes.answer, b"1\n")
    assert pipes.stopping.wait(20)
    with pytest.raises(ConfirmationError, match="nothing: no message waits"):
        pipes.ending.status()


def test_waiting_is_no_standstill_until_it_takes_minutes(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[int] = []
    sink = confirming(pipes, lambda: notes.append(1))
    delivery = Delivery(sink, message())
    pipes.line()
    assert problem_of(sink) is None
    monkeypatch.setattr("messaging_receiver.sinks.confirming.SLOW_SECONDS", 0.0)
    while problem_of(sink) is None or not notes:
        os.sched_yield()
    assert problem_of(sink) == "message 1 has not been confirmed on stdin"
    os.write(pipes.answer, b"1\n")
    delivery.wait()
    assert problem_of(sink) is None
    assert SLOW_SECONDS > 0


def test_a_reader_that_is_gone_is_noticed(pipes: Pipes) -> None:
    sink = confirming(pipes)
    sink.check()
    os.close(pipes.printed)
    with pytest.raises(OutputError, match="Broken pipe"):
        sink.check()
    with pytest.raises(OutputError, match="Broken pipe"):
        sink.deliver(message())
