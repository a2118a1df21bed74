"""What the publisher of `python -m chaos.group` promises: three copies of each message, also if the broker dies."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.group import publisher as module
from chaos.group.publisher import Publisher
from testbed.paced_client import Publication


class Broker:
    """Acknowledges everything, unless it is told otherwise."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.before_acknowledging: list[Any] = []
        self.has_subscriber: list[bool] = []

    def publish_all(self, topic: str, publications: Sequence[Publication]) -> list[Publication]:
        if self.before_acknowledging:
            self.before_acknowledging.pop()()
        if self.has_subscriber.pop() if self.has_subscriber else True:
            self.got += [publication.payload.decode() for publication in publications]
            return []
        return list(publications)

    def close(self) -> None:
        pass


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(module, "PacedClient", lambda _port: broker)
    return broker


def publisher(broker: Broker, limit: int | None) -> Publisher:
    sealer: Any = SimpleNamespace(seal=lambda number: str(number).encode())
    return Publisher(0, "topic", sealer, lambda: len(set(broker.got)), random.Random(1), limit)


def run(publisher: Publisher) -> None:
    publisher.start()
    while publisher.is_running:
        time.sleep(0.01)
    publisher.finish()


def test_each_message_is_published_three_times_with_the_same_bytes(broker: Broker) -> None:
    tested = publisher(broker, 100)
    run(tested)
    counted = Counter(broker.got)
    assert counted == dict.fromkeys(tested.acknowledged, 3)
    assert tested.published == tested.acknowledged
    assert tested.copies == 2 * len(counted)
    assert len(counted) >= 100


def test_what_a_killed_broker_may_have_lost_is_published_again(broker: Broker) -> None:
    tested = publisher(broker, 0)
    run(tested)
    tested.publish(3)
    tested.publish_again_since(time.monotonic())
    tested.publish(1)
    assert Counter(broker.got) == {"1": 2, "2": 2, "3": 2, "4": 1}


def test_also_if_it_is_killed_after_the_last_message(broker: Broker) -> None:
    tested = publisher(broker, 1)
    run(tested)
    tested.publish_again_since(time.monotonic())
    before = len(broker.got)
    tested.finish()
    assert set(broker.got[before:]) == tested.acknowledged


def test_a_message_that_the_broker_took_while_it_was_killed_is_published_again(broker: Broker) -> None:
    tested = publisher(broker, 0)
    run(tested)
    broker.before_acknowledging.append(lambda: tested.publish_again_since(time.monotonic()))
    tested.publish(1)
    assert broker.got == ["1", "1"]
    assert tested.acknowledged == {"1"}


def test_a_message_that_the_broker_has_no_subscriber_for_is_not_acknowledged(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BROKER_PAUSE_SECONDS", 0)
    tested = publisher(broker, 0)
    run(tested)
    broker.has_subscriber += [False]
    tested.publish(2)
    assert Counter(broker.got) == {"1": 1, "2": 1}
    assert tested.rejected == 2


def test_an_error_in_the_thread_is_raised(broker: Broker) -> None:
    tested = publisher(broker, 1)
    broker.before_acknowledging.append(lambda: 1 / 0)
    tested.start()
    with pytest.raises(ZeroDivisionError):
        tested.finish()


def test_a_message_is_published_again_until_the_broker_acknowledges_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BROKER_PAUSE_SECONDS", 0)

    def fail() -> None:
        raise OSError

    tested = publisher(broker, 0)
    run(tested)
    broker.before_acknowledging += [fail, fail]
    tested.publish(1)
    assert broker.got == ["1"]
    assert tested.acknowledged == {"1"}
