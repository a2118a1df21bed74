"""The harness of `make hostile` against the real receiver: it detects lost messages, and reports their senders."""

import signal
from collections.abc import Iterator

import pytest

from hostile.attack import Attack
from hostile.environment import AttackEnvironment, open_world
from hostile.tricks import TRICKS


@pytest.fixture(scope="module")
def world() -> Iterator[AttackEnvironment]:
    with open_world(seed=1) as world:
        yield world


def test_a_message_that_is_acknowledged_and_never_printed_is_a_fault(
    world: AttackEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Do not wait long for the lost messages.
    monkeypatch.setattr("hostile.attack._DELIVERY_SECONDS", 10.0)
    mosquitto = world.lab.mosquitto
    world.known.connect(mosquitto.port)
    printed = world.known.send(8)
    assert world.victim.wait_until_printed(printed, 20)
    world.victim.end(signal.SIGTERM)
    lost = world.known.send(3)
    world.known.wait_until_acknowledged(20)
    world.known.disconnect(1)
    mosquitto.forget()
    world.victim.start()
    attack = Attack(world, 1.0, 1, TRICKS)
    attack.settle()
    assert {promise.text for promise in attack.evidence.delivery.promises} == {*printed, *lost}
    faults = attack.evidence.faults()
    assert len(faults) == 1, faults
    assert faults[0] == f"3 of 11 acknowledged known messages were lost: {', '.join(sorted(lost))}"
