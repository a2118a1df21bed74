"""Messages that wait for DNS, for the disk or for the clock, in a receiver whose DNS answers are made here."""

import threading
import time
from pathlib import Path

import pytest
from waiting_room import MAX_WAITING_FOR_A_STRANGER, MAX_WAITING_SECONDS

from idlib.errors import (
    BogusError,
    DiscoveryError,
    StoreError,
    TemporaryDiscoveryError,
)
from idlib.store import Store
from idlib.trust import MAX_MESSAGE_AGE_SECONDS
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, World, record_of, run_world, sealed


@pytest.mark.parametrize("outage", [TemporaryDiscoveryError("no answer"), BogusError("broken")])
def test_a_message_waits_in_the_store_while_dns_is_out_and_is_printed_when_it_is_back(
    world: World, outage: DiscoveryError
) -> None:
    world.dns.answers[ALICE] = outage
    world.deliver(sealed("patient"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.waiting_senders() == (str(ALICE),)
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed == ["alice.example says: patient"])
    world.wait_for(lambda: world.pipeline.store.waiting_senders() == ())


def test_what_waits_is_printed_after_a_restart(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first = run_world(store)
        world = next(first)
        world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
        world.deliver(sealed("patient"))
        world.wait_for(lambda: len(world.settled) == 1)
        assert next(first, None) is None
    with Store(tmp_path) as store:
        second = run_world(store)
        world = next(second)
        world.wait_for(lambda: world.printed == ["alice.example says: patient"])
        assert next(second, None) is None


def test_what_waits_of_a_stranger_is_bounded(world: World) -> None:
    world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
    for number in range(MAX_WAITING_FOR_A_STRANGER + 3):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == MAX_WAITING_FOR_A_STRANGER + 3)
    assert world.pipeline.store.number_waiting() == MAX_WAITING_FOR_A_STRANGER
    assert "refused_waiting-full=3" in str(world.pipeline.counters)


def test_a_proven_sender_stays_one_while_its_messages_wait(world: World) -> None:
    world.deliver(sealed("it is me"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
    world.clock[0] += 7200
    number_of_messages = 2 * MAX_WAITING_FOR_A_STRANGER
    for number in range(number_of_messages):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 1 + number_of_messages)
    world.pipeline.store.forget_printed(int(time.time()) + MAX_MESSAGE_AGE_SECONDS + 3600)
    asked = len(world.dns.asked)
    world.clock[0] += 120
    world.wait_for(lambda: len(world.dns.asked) >= asked + 2)
    assert world.pipeline.store.number_waiting() == number_of_messages


def test_what_came_while_the_clock_was_late_has_not_waited_for_long_once_it_is_set(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_time = time.time
    late = threading.Event()
    world.pipeline.store.believe_clock_since("an earlier start")
    world.pipeline.store.note_time(int(real_time()))
    monkeypatch.setattr("idlib.clock.is_synchronized", lambda: not late.is_set())
    monkeypatch.setattr("time.time", lambda: real_time() + (0 if late.is_set() else 2 * MAX_WAITING_SECONDS))
    payload = sealed("sent while you were off", DAVE)
    late.set()
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    world.dns.answers[DAVE] = BogusError("not valid yet, by the time that the clock showed")
    late.clear()
    world.wait_for(lambda: world.dns.asked.count(DAVE) >= 1)
    world.dns.answers[DAVE] = record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed == ["dave.example says: sent while you were off"])


def test_what_waits_for_a_second_look_up_is_not_forgotten_after_the_first(world: World) -> None:
    world.deliver(sealed("by the old key"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
    world.deliver(sealed("by the new key", key=KEYS[BOB]))
    world.wait_for(lambda: world.pipeline.store.number_waiting() == 1)
    second = world.dns.answers[ALICE] = threading.Event()
    world.dns.keys[ALICE] = KEYS[BOB]
    asked = world.dns.asked.count(ALICE)
    world.clock[0] += 120
    world.wait_for(lambda: world.dns.asked.count(ALICE) > asked)
    # Another message that stands aside for long: what stands aside goes to the disk, all of it.
    other = world.dns.answers[DAVE] = threading.Event()
    world.deliver(sealed("from somebody else", DAVE))
    world.wait_for(lambda: world.pipeline.store.is_waiting(str(DAVE)))
    second.set()
    other.set()
    world.wait_for(lambda: "alice.example says: by the new key" in world.printed)


def test_of_a_sender_that_was_authentic_before_more_may_wait(world: World) -> None:
    world.deliver(sealed("it is me"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
    world.clock[0] += 7200
    number_of_messages = 3 * MAX_WAITING_FOR_A_STRANGER
    for number in range(number_of_messages):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 1 + number_of_messages)
    assert world.pipeline.store.number_waiting() == number_of_messages
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: len(world.printed) == 1 + number_of_messages)
    assert world.printed[1:] == [f"alice.example says: number {number}" for number in range(number_of_messages)]
    world.wait_for(lambda: world.pipeline.store.number_waiting() == 0)


def test_dns_is_not_asked_again_about_a_name_of_whom_nothing_waits_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waiting_room.MAX_WAITING", 1)
    world.dns.answers[ALICE] = world.dns.answers[DAVE] = TemporaryDiscoveryError("no answer")
    world.deliver(sealed("kept"))
    world.wait_for(lambda: len(world.settled) == 1)
    world.deliver(sealed("refused", DAVE))
    world.wait_for(lambda: "refused_waiting-full=1" in str(world.pipeline.counters))
    asked = world.dns.asked.count(DAVE)
    world.clock[0] += 120
    world.wait_for(lambda: world.dns.asked.count(ALICE) == 2)
    world.clock[0] += 120
    world.wait_for(lambda: world.dns.asked.count(ALICE) == 3)
    assert world.dns.asked.count(DAVE) == asked


def test_after_a_day_a_stranger_is_waited_for_no_longer_and_a_proven_sender_still_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deliver(sealed("it is me"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = world.dns.answers[DAVE] = TemporaryDiscoveryError("no answer")
    world.clock[0] += 7200
    world.deliver(sealed("proven"))
    world.deliver(sealed("strange", DAVE))
    world.wait_for(lambda: len(world.settled) == 3)
    real_time = time.time
    world.clock[0] += 120
    monkeypatch.setattr("time.time", lambda: real_time() + MAX_WAITING_SECONDS + 60)
    world.wait_for(lambda: "refused_waited-too-long=1" in str(world.pipeline.counters))
    world.wait_for(lambda: world.pipeline.store.waiting_senders() == (str(ALICE),))
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.wait_for(lambda: world.printed[1:] == ["alice.example says: proven"])


def test_when_all_places_are_taken_the_name_with_most_loses_its_newest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waiting_room.MAX_WAITING", 4)
    world.dns.answers[ALICE] = world.dns.answers[DAVE] = TemporaryDiscoveryError("no answer")
    for number in range(4):
        world.deliver(sealed(f"number {number}"))
        world.wait_for(lambda number=number: len(world.settled) == number + 1)  # type: ignore[misc]
    world.deliver(sealed("the only one", DAVE))
    world.wait_for(lambda: len(world.settled) == 5)
    assert world.pipeline.store.number_waiting() == 4
    assert "refused_waiting-full=1" in str(world.pipeline.counters)
    world.dns.answers[ALICE], world.dns.answers[DAVE] = record_of(KEYS[ALICE]), record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: len(world.printed) == 4)
    said = [f"alice.example says: number {number}" for number in range(3)]
    assert sorted(world.printed) == [*said, "dave.example says: the only one"]


def test_a_message_by_a_new_key_waits_where_dns_cannot_be_asked_about_it(world: World) -> None:
    world.deliver(sealed("by the old key"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = TemporaryDiscoveryError("no answer")
    world.deliver(sealed("by the new key", key=KEYS[DAVE]))
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.pipeline.store.number_waiting() == 1
    world.dns.answers[ALICE] = record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed[1:] == ["alice.example says: by the new key"])


def test_messages_wait_while_the_clock_is_not_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = sealed("patient")
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: 1000.0)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.printed == []
    monkeypatch.setattr("time.time", real_time)
    world.wait_for(lambda: world.printed == ["alice.example says: patient"])


def test_messages_wait_while_the_clock_shows_less_than_it_did(world: World) -> None:
    world.pipeline.store.note_time(int(time.time()) + 2)
    world.deliver(sealed("patient"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.printed == []
    world.wait_for(lambda: world.printed == ["alice.example says: patient"])


def test_messages_wait_while_the_clock_may_be_late_for_nobody_has_set_it_since_the_system_was_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pipeline.store.believe_clock_since("an earlier start")
    monkeypatch.setattr("idlib.clock.is_synchronized", lambda: False)
    payload = sealed("sent while you were off")
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: real_time() - 3600)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.waiting_senders() == (str(ALICE),)
    monkeypatch.setattr("time.time", real_time)
    world.wait_for(lambda: world.printed == ["alice.example says: sent while you were off"])


@pytest.mark.parametrize("boot", ["", "an earlier start", "this start"])
def test_a_message_from_the_future_of_a_clock_that_is_set_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    monkeypatch.setattr("idlib.clock.boot", lambda: "this start")
    monkeypatch.setattr("idlib.clock.is_synchronized", lambda: boot == "an earlier start")
    world.pipeline.store.believe_clock_since(boot)
    payload = sealed("from the future")
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: real_time() - 3600)
    world.deliver(payload)
    world.wait_for(lambda: "refused_from-the-future=1" in str(world.pipeline.counters))


def failing(store: Store, method: str, until: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a method of the store fail until an event is set."""
    real = getattr(Store, method)

    def fail_first(self: Store, *arguments: object) -> object:
        if not until.is_set():
            raise StoreError("database or disk is full")
        return real(self, *arguments)

    monkeypatch.setattr(Store, method, fail_first)
    monkeypatch.setattr("pipeline.STORE_RETRY_SECONDS", 0.05)


@pytest.mark.parametrize("method", ["has_printed", "number_printed_of", "finish"])
def test_messages_wait_for_the_disk_and_are_printed_in_order(
    world: World, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # What comes while the sender is looked up may stand in the store, and is acknowledged then.
    world.deliver(sealed("known"))
    world.wait_for(lambda: len(world.settled) == 1)
    repaired = threading.Event()
    failing(world.pipeline.store, method, repaired, monkeypatch)
    for number in range(100):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: world.pipeline.store_outage.cause is not None)
    assert len(world.settled) == 1
    time.sleep(0.3)
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 101)
    assert world.printed[1:] == [f"alice.example says: number {number}" for number in range(100)]
    assert world.pipeline.store_outage.cause is None
    assert sum("Messages wait for the disk" in line for line in caplog.messages) == 1
    assert "refused=0" in str(world.pipeline.counters)


def test_what_is_to_wait_is_not_acknowledged_before_it_is_on_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repaired = threading.Event()
    failing(world.pipeline.store, "keep_waiting", repaired, monkeypatch)
    world.dns.answers[DAVE] = TemporaryDiscoveryError("no answer")
    world.deliver(sealed("patient", DAVE))
    world.wait_for(lambda: world.pipeline.store_outage.cause is not None)
    assert world.settled == []
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.number_waiting() == 1


@pytest.mark.parametrize("method", ["keep_waiting", "forget_newest_waiting", "number_waiting"])
def test_what_is_to_wait_waits_for_the_disk_first(world: World, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repaired = threading.Event()
    failing(world.pipeline.store, method, repaired, monkeypatch)
    world.dns.answers[DAVE] = TemporaryDiscoveryError("no answer")
    world.deliver(sealed("patient", DAVE))
    world.wait_for(lambda: world.pipeline.store_outage.cause is not None)
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 1)
    world.dns.answers[DAVE] = record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed == ["dave.example says: patient"])


def test_a_clock_far_ahead_refuses_nothing_for_its_age_until_a_fresh_message_proves_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    year = 365 * 24 * 3600.0
    old = sealed("old by this clock")
    real_time = time.time
    world.pipeline.store.note_time(int(real_time()))
    monkeypatch.setattr("time.time", lambda: real_time() + year)
    world.deliver(old)
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.number_waiting() == 1
    world.deliver(sealed("fresh by this clock"))
    world.wait_for(lambda: world.printed == ["alice.example says: fresh by this clock"])
    world.wait_for(lambda: "refused_too-old=1" in str(world.pipeline.counters))
    assert world.pipeline.store.latest_time > real_time() + year - 60
