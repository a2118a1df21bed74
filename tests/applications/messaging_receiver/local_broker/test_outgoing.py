"""What is published at the local broker gets into the outbox, and is acknowledged only once it is durable."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from idlib.local_broker.place import Topics
from idlib.storage.outbox import FILE_NAME, MAX_OCTETS, Outbox
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.storage.watching import is_watched
from idlib.transport import ReceivedPacket
from messaging_receiver.local_broker.connection import Taken
from messaging_receiver.local_broker.outgoing import MAX_TAKEN, Outgoing

BOB = "bob.example.com"


class Bench:
    """An `Outgoing` that runs, and what it has acknowledged and reported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stopping = threading.Event()
        self.acknowledged: list[tuple[int, int]] = []
        self.reports: list[dict[str, str]] = []
        self.outgoing = Outgoing(
            partial(Outbox, directory),
            partial(is_watched, directory),
            Topics("home/a"),
            65536,
            self._acknowledge,
            lambda _: False,
            lambda report: self.reports.append(json.loads(report)),
            lambda: None,
        )
        self._thread = threading.Thread(target=self.outgoing.run, args=(self.stopping,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.outgoing.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, topic: str, payload: bytes, number: int = 1, *, qos: int = 1, is_retained: bool = False) -> None:
        packet = ReceivedPacket(None, number, qos)
        self.outgoing.take(Taken(topic.encode(), payload, packet, is_retained))

    def stored(self) -> list[tuple[str, str | bytes]]:
        path = self.directory / FILE_NAME
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT recipient, text FROM outgoing ORDER BY number").fetchall()
        finally:
            connection.close()

    def wait(self, number: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.acknowledged) < number:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def problem(self) -> str:
        """Return the problem as soon as there is one."""
        deadline = time.monotonic() + 20
        while (problem := self.outgoing.problem) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return problem

    def _acknowledge(self, packet: ReceivedPacket) -> None:
        self.acknowledged.append((packet.packet_id, len(self.stored())))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("messaging_receiver.local_broker.outgoing._SHORTEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("messaging_receiver.local_broker.outgoing._LONGEST_PAUSE_SECONDS", 0.02)
    bench = Bench(tmp_path)
    yield bench
    bench.stop()


def test_a_message_is_acknowledged_once_it_is_in_the_outbox(bench: Bench) -> None:
    bench.take(f"home/a/out/{BOB}", "grüezi".encode(), 7)
    bench.take("home/a/out/CAROL.example.com.", b"\xff", 8)
    bench.start()
    bench.wait(2)
    assert bench.acknowledged == [(7, 1), (8, 2)]
    assert bench.stored() == [(BOB, "grüezi"), ("carol.example.com", b"application/octet-stream\0\xff")]
    assert bench.outgoing.number == 2
    assert bench.reports == []


@pytest.mark.parametrize(
    ("topic", "payload", "error"),
    [
        (f"home/a/out/{BOB}", b"", "it is empty"),
        (f"home/a/out/{BOB}", b"x" * 40_000, "40000 bytes are too many for a message of 65536 bytes"),
        ("home/a/out/bob", b"x", "'bob' is not a device name"),
        ("home/a/out/bob.example.com/x", b"x", "'bob.example.com/x' is not a device name"),
        (
            f"home/a/out/{BOB}",
            b'{"protected": "", "ciphertext": "", "iv": "", "tag": ""}',
            "it is an encrypted message",
        ),
        (f"other/out/{BOB}", b"x", "its topic does not start with home/a/out/"),
    ],
)
def test_what_can_never_be_sent_is_acknowledged_and_reported(
    bench: Bench, topic: str, payload: bytes, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.take(topic, payload)
    bench.take(f"home/a/out/{BOB}", b"good", 2)
    bench.start()
    bench.wait(2)
    (report,) = bench.reports
    assert report["topic"] == topic
    assert report["error"].startswith(error)
    assert f"What was published to '{topic}' at the local broker is not sent: {error}" in caplog.text
    assert bench.stored() == [(BOB, "good")]


def test_a_retained_message_is_never_sent(bench: Bench) -> None:
    bench.take(f"home/a/out/{BOB}", b"x", is_retained=True)
    bench.start()
    bench.wait(1)
    assert bench.reports[0]["error"].startswith("it is retained at the local broker")
    assert bench.stored() == []


def test_a_topic_cannot_control_a_terminal_or_fill_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.take(f"home/a/out/\x1b]0;\u202e{'x' * 60_000}", b"x")
    bench.start()
    bench.wait(1)
    (line,) = caplog.messages
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 600


def test_messages_wait_while_the_outbox_is_full(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with Outbox(bench.directory) as outbox:
        for number in range(2):
            filler = NewOutgoingMessage(BOB, str(number), "x" * (MAX_OCTETS // 2 - 300), 1_800_000_000, None)
            outbox.put(filler)
    bench.take(f"home/a/out/{BOB}", b"x" * 1000, 3)
    bench.start()
    assert bench.problem().startswith("Messages from the local broker wait: the outbox is full")
    assert bench.acknowledged == []
    with Outbox(bench.directory) as outbox:
        outbox.remove(1)
    bench.wait(1)
    assert bench.acknowledged == [(3, 2)]
    assert bench.outgoing.problem is None
    assert sum("the outbox is full" in line for line in caplog.messages) == 1


def test_what_is_not_in_the_outbox_at_the_end_is_not_acknowledged(bench: Bench) -> None:
    (bench.directory / FILE_NAME).mkdir()
    bench.take(f"home/a/out/{BOB}", b"x")
    bench.start()
    assert "cannot be" in bench.problem() or "is a directory" in bench.problem()
    bench.stop()
    assert bench.acknowledged == []


def test_a_flood_without_acknowledgements_is_bounded(bench: Bench) -> None:
    for _ in range(MAX_TAKEN + 5):
        bench.take(f"home/a/out/{BOB}", b"x", 0, qos=0)
    assert len(bench.reports) == 5
    assert "use QoS 1" in bench.reports[0]["error"]


def test_what_the_local_broker_sends_again_is_left_to_that(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.outgoing, "_is_sent_again", lambda packet: packet.packet_id == 1)
    bench.take(f"home/a/out/{BOB}", b"sent again", 1)
    bench.take(f"home/a/out/{BOB}", b"not sent again", 2)
    bench.start()
    bench.wait(1)
    assert bench.acknowledged == [(2, 1)]
    assert bench.stored() == [(BOB, "not sent again")]
