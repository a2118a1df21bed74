"""Which senders get receipts, how often, and that strangers cannot use up the limits of others."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from idlib.discovery import Discovery, Found
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.errors import NoSubscriberError, TransportError
from idlib.names import IdentityName
from idlib.settings import MqttVersion
from idlib.transport import Broker
from messaging_receiver.receipt_requests import (
    BURST,
    MAX_REQUESTS,
    MAX_SENDERS,
    SECONDS_PER_RECEIPT,
    STRANGERS_BURST,
    STRANGERS_SECONDS_PER_RECEIPT,
    ZONE_BURST,
    ZONE_SECONDS_PER_RECEIPT,
    Rates,
    ReceiptRequest,
    Requests,
)
from messaging_receiver.receipts import Receipts
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS, record_of


def zone_of(sender: IdentityName) -> str:
    return str(sender).partition(".")[2]


def name(number: int, zone: str | None = None) -> IdentityName:
    """Return a name in a zone, by default in a new zone."""
    return IdentityName(f"device-{number}.{zone or f'zone-{number}.example'}")


class Asking:
    """Requests with a simulated clock and the proven names that the test chooses."""

    def __init__(self, *proven: IdentityName) -> None:
        self.now = 1000.0
        self.proven = set(proven)
        self.requests = Requests(self.proven.__contains__, zone_of, lambda: self.now)

    def ask(self, sender: IdentityName, number: int = 1) -> int:
        """Send a number of requests, and return how many of them were accepted."""
        before = len(self.requests)
        for _ in range(number):
            self.requests.put(ReceiptRequest(sender, "some message"))
        return len(self.requests) - before

    def answer_all(self) -> list[IdentityName]:
        senders = []
        while request := self.requests.get(0):
            assert isinstance(request, ReceiptRequest)
            senders.append(request.sender)
        return senders


def test_each_sender_has_its_own_rate() -> None:
    rates = Rates(3, 1.0)
    assert [rates.allow("alice", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert rates.allow("bob", 0.0)
    assert [rates.allow("alice", 2.0) for _ in range(3)] == [True, True, False]


def test_the_number_of_remembered_senders_is_limited() -> None:
    rates = Rates(1, 1.0)
    for number in range(MAX_SENDERS + 100):
        rates.allow(str(number), 0.0)
    assert len(rates._buckets) == MAX_SENDERS


@pytest.mark.parametrize("proven", [[ALICE], []])
def test_a_sender_gets_a_burst_and_then_its_rate(proven: list[IdentityName]) -> None:
    asking = Asking(*proven)
    assert asking.ask(ALICE, 2 * BURST) == BURST
    asking.now += 3 * SECONDS_PER_RECEIPT
    assert asking.ask(ALICE, 10) == 3


def test_proven_senders_get_receipts_before_strangers_in_the_order_of_their_requests() -> None:
    first, second = name(1), name(2)
    asking = Asking(first, second)
    for sender in (ALICE, first, BOB, second, first):
        asking.ask(sender)
    assert asking.answer_all() == [first, second, first, ALICE, BOB]


def test_strangers_cannot_use_the_places_of_proven_senders() -> None:
    proven = [name(number) for number in range(MAX_REQUESTS + 10)]
    asking = Asking(*proven)
    for number in range(1000):
        asking.ask(name(number, "strangers.example"))
    assert sum(map(asking.ask, proven)) == MAX_REQUESTS


def test_all_strangers_share_one_rate_whatever_their_names_and_zones() -> None:
    asking = Asking()
    seconds = 60
    answered = 0
    for number in range(seconds * 40):
        answered += asking.ask(name(number))
        asking.now += 1 / 40
        asking.answer_all()
    assert answered <= STRANGERS_BURST + seconds / STRANGERS_SECONDS_PER_RECEIPT + 1
    assert answered >= STRANGERS_BURST + seconds / STRANGERS_SECONDS_PER_RECEIPT - 1


def test_the_names_of_one_zone_share_a_rate_and_leave_some_for_other_strangers() -> None:
    asking = Asking()
    answered = sum(asking.ask(name(number, "strangers.example")) for number in range(1000))
    assert answered == ZONE_BURST
    asking.now += 10 * ZONE_SECONDS_PER_RECEIPT
    assert sum(asking.ask(name(number, "strangers.example")) for number in range(1000)) == 10
    assert asking.ask(ALICE)


def test_strangers_displace_no_rate_of_a_proven_sender() -> None:
    asking = Asking(ALICE)
    assert asking.ask(ALICE, BURST) == BURST
    for number in range(3 * MAX_SENDERS):
        asking.ask(name(number))
    assert asking.ask(ALICE, BURST) == 0


def test_get_returns_when_a_request_comes() -> None:
    asking = Asking(ALICE)
    assert asking.requests.get(0.01) is None
    threading.Timer(0.1, asking.ask, [ALICE]).start()
    assert asking.requests.get(20) == ReceiptRequest(ALICE, "some message")


@dataclass
class Unanswered:
    """A message that the broker answers when it is waited for."""

    number: int
    is_answered: bool = False


class Publisher:
    """A fake publisher: the test decides what it acknowledges, and if the broker can be reached."""

    window = 20

    def __init__(self) -> None:
        self.connections = 0
        self.published: list[str] = []
        self.acknowledged = 0
        self.most_under_way = 0
        self.is_away = False
        self.is_patient = threading.Event()
        self.is_patient.set()

    def connect(self, _broker: Broker, _timeout: float) -> "Publisher":
        self.connections += 1
        return self

    def __enter__(self) -> "Publisher":
        if self.is_away:
            raise TransportError("the broker was not reached")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def publish(self, topic: str, _payload: bytes, _lifetime: int) -> "Unanswered":
        self.published.append(topic)
        self.most_under_way = max(self.most_under_way, len(self.published) - self.acknowledged)
        return Unanswered(len(self.published))

    def wait(self, publication: "Unanswered") -> None:
        self.is_patient.wait(20)
        if self.is_away:
            raise TransportError("the broker did not acknowledge the message")
        self.acknowledged += 1
        if publication.number % 3 == 0:
            raise NoSubscriberError("nobody has subscribed")


class Dns:
    def look_up(self, _wanted: LookUp) -> AuthenticRecords:
        return AuthenticRecords((record_of(KEYS[ALICE]),), 300, "made in a test")


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Publisher:
    publisher = Publisher()
    monkeypatch.setattr("messaging_receiver.receipts.Publisher", publisher.connect)
    return publisher


def are_within(pauses: list[float], longest: list[float]) -> bool:
    """Return whether each pause is between half of its longest length and all of it."""
    return len(pauses) == len(longest) and all(
        limit / 2 <= pause <= limit for pause, limit in zip(pauses, longest, strict=True)
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the pauses of the receipts' thread, which does not really sleep."""
    pauses: list[float] = []
    monkeypatch.setattr("messaging_receiver.receipts.time", SimpleNamespace(sleep=pauses.append, time=time.time))
    return pauses


@pytest.fixture
def receipts(publisher: Publisher, pauses: list[float]) -> Receipts:
    discovery = Discovery(Dns())
    for number in range(100):
        assert isinstance(discovery.find(name(number)), Found)
    broker = Broker("127.0.0.1", 1, MqttVersion.V5)
    return Receipts(
        broker, BOB, lambda: KEYS[BOB], discovery, lambda _: True, zone_of, lambda _: False, lambda *_: None
    )


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_length(collected: Sequence[object], length: int) -> None:
    wait_until(lambda: len(collected) == length)


def ask(receipts: Receipts, number: int) -> None:
    receipts.ask(ReceiptRequest(name(number), "some message"))


def test_no_receipt_waits_for_the_acknowledgement_of_the_one_before(receipts: Receipts, publisher: Publisher) -> None:
    publisher.is_patient.clear()
    receipts.start()
    for number in range(60):
        ask(receipts, number)
    wait_for_length(publisher.published, publisher.window)
    publisher.is_patient.set()
    wait_for_length(publisher.published, 60)
    assert publisher.published == [str(name(number)) for number in range(60)]
    assert publisher.most_under_way == publisher.window
    assert publisher.connections == 1


def test_receipts_are_dropped_and_retries_become_rarer_while_the_broker_is_unreachable(
    receipts: Receipts, publisher: Publisher, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    publisher.is_away = True
    receipts.start()
    for attempt in range(1, 8):
        ask(receipts, attempt)
        wait_for_length(pauses, attempt)
    assert are_within(pauses, [5, 10, 20, 40, 60, 60, 60])
    assert publisher.published == []
    assert caplog.messages == ["Receipts are dropped: the broker was not reached"]


def test_the_first_pause_is_short_again_after_an_acknowledged_receipt(
    receipts: Receipts, publisher: Publisher, pauses: list[float]
) -> None:
    publisher.is_away = True
    receipts.start()
    for attempt in (1, 2):
        ask(receipts, attempt)
        wait_for_length(pauses, attempt)
    publisher.is_away = False
    for number in range(publisher.window):
        ask(receipts, number)
    wait_until(lambda: publisher.acknowledged)
    publisher.is_away = True
    ask(receipts, 0)
    wait_for_length(pauses, 3)
    assert are_within(pauses, [5, 10, 5])


def test_a_broker_that_disappears_while_receipts_are_under_way_is_logged_once(
    receipts: Receipts, publisher: Publisher, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    publisher.is_patient.clear()
    receipts.start()
    for number in range(publisher.window):
        ask(receipts, number)
    wait_for_length(publisher.published, publisher.window)
    publisher.is_away = True
    publisher.is_patient.set()
    wait_for_length(pauses, 1)
    ask(receipts, 0)
    wait_for_length(pauses, 2)
    assert caplog.messages == ["Receipts are dropped: the broker did not acknowledge the message"]


def test_asking_for_a_receipt_never_waits_even_if_the_broker_does_not_answer(receipts: Receipts) -> None:
    for number in range(100):
        for _ in range(BURST + 1):
            ask(receipts, number)
    assert len(receipts._requests) == MAX_REQUESTS
