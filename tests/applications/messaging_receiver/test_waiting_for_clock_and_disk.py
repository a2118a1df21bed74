"""Messages that wait for the clock or for the disk, in a receiver with simulated DNS answers."""

import threading
import time
from collections.abc import Callable

import pytest

from idlib.errors import StoreError
from idlib.names import IdentityName
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import WaitingMessages
from idlib.trust import MAX_MESSAGE_AGE_SECONDS
from messaging_receiver.deferral import MAX_WAITING_SECONDS
from tests.applications.messaging_receiver.waiting import OUT, prove
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, World, record_of, sealed


def test_messages_wait_while_the_clock_is_not_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = sealed("patient")
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: 1000.0)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.printed == []
    monkeypatch.setattr("time.time", real_time)
    world.wait_for(lambda: world.printed == ["alice.example says: patient"])


def test_messages_wait_while_the_clock_is_behind_the_recorded_time(world: World) -> None:
    world.context.memory.note_time(int(time.time()) + 2)
    world.deliver(sealed("patient"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.printed == []
    world.wait_for(lambda: world.printed == ["alice.example says: patient"])


def test_messages_from_the_future_wait_if_the_clock_was_not_set_since_the_system_was_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.context.memory.trust_clock_since("an earlier boot")
    monkeypatch.setattr("idlib.system.clock.is_synchronized", lambda: False)
    payload = sealed("sent while you were off")
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: real_time() - 3600)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.stored() == [str(ALICE)]
    monkeypatch.setattr("time.time", real_time)
    world.wait_for(lambda: world.printed == ["alice.example says: sent while you were off"])


def test_a_message_from_the_future_is_refused_if_the_clock_is_set(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idlib.system.clock.is_synchronized", lambda: True)
    world.context.memory.trust_clock_since("an earlier boot")
    payload = sealed("from the future")
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: real_time() - 3600)
    world.deliver(payload)
    world.wait_for(lambda: "refused_from-the-future=1" in world.counters)


@pytest.mark.parametrize("sender", [ALICE, DAVE], ids=["proven", "stranger"])
def test_no_message_confirms_a_clock_that_is_far_ahead(
    world: World, monkeypatch: pytest.MonkeyPatch, sender: IdentityName
) -> None:
    year = 365 * 24 * 3600.0
    real_time = time.time
    prove(world, ALICE)
    world.context.memory.note_time(int(real_time()))
    old = sealed("old by this clock")
    monkeypatch.setattr("time.time", lambda: real_time() + year)
    world.deliver(old)
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.stored() == [str(ALICE)]
    world.deliver(sealed("fresh by this clock", sender))
    world.wait_for(lambda: len(world.settled) == 2)
    world.context.timekeeper.record()
    assert world.context.memory.latest_time < real_time() + 60
    monkeypatch.setattr("time.time", real_time)
    world.wait_for(lambda: "alice.example says: old by this clock" in world.printed)


def test_messages_that_wait_for_the_clock_are_not_refused_as_waited_too_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = sealed("patient", DAVE)
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: 1000.0)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    world.clock[0] += 3 * MAX_WAITING_SECONDS
    time.sleep(1)
    assert "refused=0" in world.counters
    monkeypatch.setattr("time.time", real_time)
    world.wait_for(lambda: world.printed == ["dave.test says: patient"])


def failing(
    owner: type, method: str, until: threading.Event, monkeypatch: pytest.MonkeyPatch, when: Callable[..., bool]
) -> None:
    """Make a method of the store fail until an event is set."""
    real = getattr(owner, method)

    def fail_first(self: object, *arguments: object) -> object:
        if not until.is_set() and when(*arguments):
            raise StoreError("database or disk is full")
        return real(self, *arguments)

    monkeypatch.setattr(owner, method, fail_first)
    monkeypatch.setattr("messaging_receiver.durable_writes.STORE_RETRY_SECONDS", 0.05)


@pytest.mark.parametrize("method", ["verdict", "remember"])
def test_messages_wait_for_the_disk_and_are_printed_in_order(
    world: World, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # A message that arrives during a look-up may be stored, and would then be acknowledged.
    world.deliver(sealed("known"))
    world.wait_for(lambda: len(world.settled) == 1)
    repaired = threading.Event()
    failing(ReplayMemory, method, repaired, monkeypatch, lambda *_: True)
    for number in range(100):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: world.context.writes.problem is not None)
    assert len(world.settled) == 1
    time.sleep(0.3)
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 101)
    assert world.printed[1:] == [f"alice.example says: number {number}" for number in range(100)]
    assert world.context.writes.problem is None
    assert sum("Messages wait for the disk" in line for line in caplog.messages) == 1
    assert "refused=0" in world.counters


@pytest.mark.parametrize(
    ("method", "when"),
    [("change", lambda added, *_: bool(added)), ("change", lambda added, *_: not added), ("read", lambda *_: True)],
    ids=["storing", "removing", "reading"],
)
def test_a_message_to_be_deferred_waits_until_the_disk_can_be_used(
    world: World, method: str, when: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired = threading.Event()
    failing(WaitingMessages, method, repaired, monkeypatch, when)
    world.dns.answers[DAVE] = OUT
    world.deliver(sealed("patient", DAVE))
    world.wait_for(lambda: bool(world.dns.asked))
    world.dns.answers[DAVE] = record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: world.context.writes.problem is not None)
    repaired.set()
    world.wait_for(lambda: world.printed == ["dave.test says: patient"])
    world.wait_until_nothing_waits()
    assert len(world.settled) == 1


def test_a_deferred_message_is_not_acknowledged_before_it_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired = threading.Event()
    failing(WaitingMessages, "change", repaired, monkeypatch, lambda *_: True)
    world.dns.answers[DAVE] = OUT
    world.deliver(sealed("patient", DAVE))
    world.wait_for(lambda: world.context.writes.problem is not None)
    assert world.settled == []
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.stored() == [str(DAVE)]


def test_a_message_is_valid_for_fourteen_days_whether_it_is_deferred_or_not(world: World) -> None:
    prove(world, ALICE)
    world.dns.answers[ALICE] = OUT
    world.deliver(sealed("proven"))
    world.wait_for(lambda: len(world.settled) == 1)
    world.clock[0] += MAX_MESSAGE_AGE_SECONDS + 60
    world.wait_for(lambda: "refused_waited-too-long=1" in world.counters)
    world.wait_until_nothing_waits()
    assert BOB not in world.dns.asked
