"""Whom the receiver confirms to, and how often."""

import pytest
from receipts import BURST, MAX_REQUESTS, MAX_SENDERS, Rate, ReceiptRequest, Receipts

from idlib.names import IdentityName
from idlib.settings import MqttVersion
from idlib.transport import Broker

ALICE = IdentityName("alice.example")


def name(number: int) -> IdentityName:
    return IdentityName(f"device-{number}.example")


def test_each_sender_has_a_rate_of_its_own() -> None:
    now = [0.0]
    rate = Rate(lambda: now[0])
    assert [rate.allows(ALICE) for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert rate.allows(name(1))
    now[0] += 2
    assert [rate.allows(ALICE) for _ in range(3)] == [True, True, False]


def test_it_saves_up_no_more_than_a_burst() -> None:
    now = [0.0]
    rate = Rate(lambda: now[0])
    rate.allows(ALICE)
    now[0] += 1e6
    assert sum(rate.allows(ALICE) for _ in range(2 * BURST)) == BURST


def test_it_remembers_a_bounded_number_of_senders() -> None:
    rate = Rate(lambda: 0.0)
    for number in range(MAX_SENDERS + 100):
        rate.allows(name(number))
    assert len(rate._allowances) == MAX_SENDERS


def test_asking_never_waits() -> None:
    receipts = Receipts(Broker("127.0.0.1", 1, MqttVersion.V5), ALICE, pytest.fail, None)  # type: ignore[arg-type]
    for number in range(MAX_REQUESTS + 10):
        receipts.ask(ReceiptRequest(ALICE, str(number)))
    assert receipts._requests.qsize() == MAX_REQUESTS
