"""A message is published at the local broker first; what that broker does not take goes on, or is set aside."""

import concurrent.futures
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from idlib.errors import TransportError
from idlib.local_broker.place import Topics
from messaging_receiver.durable_writes import DurableWrites
from messaging_receiver.local_broker.bridge import LocalBridge
from messaging_receiver.message_files import MessageDirectory
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate, Sink
from messaging_receiver.sinks.bridging import MAX_BROKEN, Bridging
from messaging_receiver.sinks.setting_aside import SetAside
from testbed.lab import wait_until
from tests.applications.messaging_receiver.sinks.delivering import message, problem_of

NOT_AUTHORIZED = 135
QUOTA_EXCEEDED = 151
LOST = TransportError("the connection to the local broker is lost")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.sinks.bridging.PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr("messaging_receiver.sinks.bridging._LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("messaging_receiver.sinks.bridging._POLL_SECONDS", 0.01)


class Answers:
    """A bridge whose local broker gives fixed answers: a reason code, an error, None for no connection."""

    def __init__(self, *answers: int | TransportError | None) -> None:
        self.answers = list(answers)
        self.published: list[tuple[str, bytes]] = []
        self.topics = Topics("home")
        self.connection = self
        self.problem: str | None = None
        self.number = 0
        self.is_active = True
        self.largest = 10_000

    def count_published(self) -> None:
        self.number += 1

    def admits(self, _topic: str, payload: bytes) -> bool:
        return len(payload) <= self.largest

    def explain(self, code: int) -> str:
        return f"code {code}"

    def send(self, topic: str, payload: bytes) -> "concurrent.futures.Future[int] | None":
        answer = self.answers.pop(0)
        if answer is None:
            return None
        self.published.append((topic, payload))
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        if isinstance(answer, TransportError):
            future.set_exception(answer)
        elif answer >= 0:
            future.set_result(answer)
        return future


class Printed:
    """A sink that keeps the messages."""

    problem = None

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []

    def check(self) -> None:
        pass

    def deliver(self, message: ReceivedMessage) -> Fate:
        self.messages.append(message)
        return Fate.DELIVERED


def bridging(
    answers: Answers, sink: Sink | None, directory: Path | None = None, stopping: threading.Event | None = None
) -> Bridging:
    stopping = stopping or threading.Event()
    set_aside = None
    if directory is not None:
        writes = DurableWrites(stopping, lambda: None)
        set_aside = SetAside(MessageDirectory(directory), writes.retry, lambda _: True)
    return Bridging(cast("LocalBridge", answers), sink, set_aside, stopping, lambda: None)


def test_the_other_sink_gets_a_message_once_the_local_broker_has_acknowledged_it() -> None:
    answers, printed = Answers(None, LOST, QUOTA_EXCEEDED, 0), Printed()
    one = message(b"text")
    assert bridging(answers, printed).deliver(one) is Fate.DELIVERED
    assert printed.messages == [one]
    assert answers.number == 1
    topic, payload = answers.published[-1]
    assert topic == f"home/in/{one.sender}"
    assert json.loads(payload)["message"] == "text"
    assert len(set(answers.published)) == 1


def test_a_refused_message_goes_to_the_other_sink_only(caplog: pytest.LogCaptureFixture) -> None:
    answers, printed = Answers(*[NOT_AUTHORIZED] * 3), Printed()
    assert bridging(answers, printed).deliver(message(b"text")) is Fate.DELIVERED
    assert (len(printed.messages), answers.number) == (1, 0)
    assert "does not accept the message an-id from" in caplog.text


@pytest.mark.parametrize(
    "answers",
    [Answers(*[NOT_AUTHORIZED] * 3), Answers(*[LOST] * MAX_BROKEN)],
    ids=["refused", "breaks each connection"],
)
def test_a_refused_message_that_goes_nowhere_else_is_set_aside(answers: Answers, tmp_path: Path) -> None:
    directory = tmp_path / "set-aside"
    assert bridging(answers, None, directory).deliver(message(b"text")) is Fate.SET_ASIDE
    (file,) = directory.iterdir()
    assert json.loads(file.read_text())["message"] == "text"


def test_a_message_that_is_too_large_for_the_local_broker_is_not_published() -> None:
    answers, printed = Answers(), Printed()
    answers.largest = 10
    assert bridging(answers, printed).deliver(message(b"text")) is Fate.DELIVERED
    assert (answers.published, len(printed.messages)) == ([], 1)


def test_a_missing_subscriber_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    answers, printed = Answers(16), Printed()
    assert bridging(answers, printed).deliver(message(b"text")) is Fate.DELIVERED
    assert "has no subscriber for home/in/" in caplog.text
    assert answers.number == 1


@pytest.mark.parametrize("answer", [None, -1, QUOTA_EXCEEDED], ids=["away", "silent", "full"])
def test_a_receiver_that_stops_keeps_what_is_not_acknowledged(answer: int | None) -> None:
    answers, printed, stopping = Answers(*[answer] * 1000), Printed(), threading.Event()
    answers.is_active = answer is not None
    threading.Timer(0.1, stopping.set).start()
    assert bridging(answers, printed, stopping=stopping).deliver(message(b"text")) is Fate.KEPT
    assert printed.messages == []


def test_a_local_broker_that_does_not_acknowledge_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.sinks.bridging.SLOW_SECONDS", 0.0)
    stopping = threading.Event()
    sink = bridging(Answers(-1), Printed(), stopping=stopping)
    assert sink.problem is None
    delivering = threading.Thread(target=sink.deliver, args=(message(b"text"),))
    delivering.start()
    try:
        wait_until(lambda: problem_of(sink) is not None, "the problem")
        assert problem_of(sink) == "The local broker does not acknowledge a message"
    finally:
        stopping.set()
        delivering.join()
    assert sink.problem is None


def test_the_problem_is_that_of_the_bridge_or_of_the_other_sink() -> None:
    answers, printed = Answers(), SimpleNamespace(problem="stdout is not being read")
    sink = bridging(answers, cast("Sink", printed))
    assert sink.problem == "stdout is not being read"
    answers.problem = "The local broker is away"
    assert sink.problem == "The local broker is away"
