"""Messages that wait for DNS, in a receiver with simulated DNS answers."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from idlib.discovery.lookup import LookUp
from idlib.errors import BogusError, DiscoveryError, NoRecordError
from idlib.names import IdentityName, NamePatterns
from idlib.storage.waiting import WaitingMessages
from messaging_receiver.deferral import MAX_WAITING_SECONDS
from messaging_receiver.lookups import WORKERS_FOR_OTHER_NAMES
from tests.applications.messaging_receiver.waiting import HOUR, OUT, balance, prove
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, World, open_world, record_of, sealed


def strangers(world: World, number: int, answer: DiscoveryError | threading.Event, zone: str = "evil.test") -> None:
    """Send one message from each of many unknown names."""
    for position in range(number):
        name = IdentityName(f"device-{position}.{zone}")
        KEYS[name] = KEYS[DAVE]
        world.dns.answers[name] = answer
        world.deliver(sealed(f"stranger {position}", name))


@pytest.mark.parametrize("outage", [OUT, BogusError("broken")])
def test_a_message_is_stored_during_a_dns_outage_and_printed_afterwards(world: World, outage: DiscoveryError) -> None:
    world.dns.answers[ALICE] = outage
    world.deliver(sealed("patient"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.stored() == [str(ALICE)]
    assert balance(world) == (1, 1)
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed == ["alice.example says: patient"])
    world.wait_until_nothing_waits()
    world.wait_for(lambda: balance(world) == (1, 1))


def test_deferred_messages_are_printed_after_a_restart(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        world.dns.answers[ALICE] = OUT
        world.deliver(sealed("patient"))
        world.wait_for(lambda: len(world.settled) == 1)
    with open_world(tmp_path) as world:
        world.wait_for(lambda: world.printed == ["alice.example says: patient"])


def test_a_message_printed_just_before_a_crash_is_dropped_silently_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_world(tmp_path) as world:
        world.dns.answers[ALICE] = OUT
        world.deliver(sealed("patient"))
        world.wait_for(lambda: len(world.settled) == 1)
        # Simulates a power cut between the two writes.
        monkeypatch.setattr(WaitingMessages, "change", lambda *_: None)
        world.dns.answers[ALICE] = record_of(KEYS[ALICE])
        world.clock[0] += 120
        world.wait_for(lambda: len(world.printed) == 1)
    monkeypatch.undo()
    with open_world(tmp_path) as world:
        world.deliver(sealed("next"))
        world.wait_for(lambda: world.printed == ["alice.example says: next"])
        assert world.stored() == []
        assert "refused=0" in world.counters


def test_no_message_stays_unacknowledged_because_of_dns(world: World) -> None:
    silent = threading.Event()
    strangers(world, 30, silent)
    world.wait_for(lambda: len(world.settled) == 30)
    silent.set()
    world.wait_for(lambda: len(world.printed) == 30)


def test_a_deferred_message_lost_with_its_damaged_file_is_counted_and_blocks_no_other(world: World) -> None:
    world.dns.answers[ALICE] = OUT
    for number in range(3):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.stored()) == 3)
    first = next(iter(world.context.waiting_store.index())).number
    world.context.waiting_store.change((), [first])
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: len(world.printed) == 2)
    world.wait_for(lambda: balance(world) == (3, 3))
    assert "refused=1 refused_store-damaged=1" in world.counters
    assert world.authentication.number_waiting == 0
    world.deliver(sealed("after"))
    world.wait_for(lambda: "alice.example says: after" in world.printed)


def test_the_waiting_store_is_repaired_while_messages_wait(world: World) -> None:
    world.dns.answers[ALICE] = OUT
    world.deliver(sealed("before"))
    world.wait_for(lambda: len(world.stored()) == 1)
    store = world.context.waiting_store
    assert isinstance(store, WaitingMessages)
    store._connection.execute("DROP TABLE waiting")
    world.deliver(sealed("in between"))
    world.wait_for(lambda: len(world.settled) == 2)
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: "alice.example says: in between" in world.printed)
    world.wait_for(lambda: balance(world) == (2, 2))
    assert world.context.writes.problem is None


@pytest.mark.parametrize("answer", [BogusError("broken"), OUT])
def test_strangers_that_fill_their_area_displace_no_message_of_a_proven_name(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: DiscoveryError
) -> None:
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN_BYTES", 20_000)
    prove(world, ALICE)
    slow = world.dns.answers[ALICE] = threading.Event()
    for number in range(5):
        world.deliver(sealed(f"number {number}"))
    strangers(world, 200, answer)
    world.wait_for(lambda: len(world.settled) == 205)
    assert "refused_waiting-full" in world.counters
    slow.set()
    world.wait_for(lambda: world.printed == [f"alice.example says: number {number}" for number in range(5)])
    world.wait_for(lambda: balance(world) == (205, 205))


def test_nothing_is_kept_about_names_whose_messages_were_displaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN", 50)
    silent = threading.Event()
    for position in range(400):
        name = IdentityName(f"device.zone-{position}.test")
        KEYS[name] = KEYS[DAVE]
        world.dns.answers[name] = silent if position % 2 else OUT
        world.deliver(sealed("nobody", name))
    world.wait_for(lambda: len(world.settled) == 400)
    world.wait_for(lambda: len(world.authentication._asking) <= 50 + WORKERS_FOR_OTHER_NAMES + 8)
    assert len(world.authentication._deferral._retry_at) <= 50 + WORKERS_FOR_OTHER_NAMES
    assert len(world.authentication._deferral._delays) <= 50 + WORKERS_FOR_OTHER_NAMES
    silent.set()
    world.wait_for(lambda: balance(world) == (400, 400))


def test_a_burst_of_new_names_of_one_zone_is_printed_completely_despite_slow_look_ups(world: World) -> None:
    for position in range(300):
        name = IdentityName(f"device-{position}.fleet.test")
        KEYS[name] = KEYS[DAVE]
        world.dns.answers[name] = record_of(KEYS[DAVE])
    look_up = world.dns.look_up

    def slow(wanted: LookUp) -> object:
        time.sleep(0.02)
        return look_up(wanted)

    world.dns.look_up = slow  # type: ignore[method-assign, assignment]
    for position in range(300):
        world.deliver(sealed("hello", IdentityName(f"device-{position}.fleet.test")))
    world.wait_for(lambda: len(world.printed) == 300)
    assert "refused=0" in world.counters
    assert len(world.dns.asked) == 300


def test_forged_messages_that_arrive_before_their_senders_keys_are_refused_once_each(world: World) -> None:
    slow = world.dns.answers[ALICE] = threading.Event()
    for number in range(200):
        world.deliver(sealed(f"forged {number}", key=KEYS[DAVE]))
    world.wait_for(lambda: len(world.settled) == 200)
    slow.set()
    world.wait_for(lambda: "refused=200 refused_signature-invalid=200" in world.counters)
    world.wait_until_nothing_waits()
    assert balance(world) == (200, 200)
    assert world.dns.asked.count(ALICE) <= 2


def test_forged_messages_in_a_known_senders_name_cause_one_look_up_and_lose_no_message(world: World) -> None:
    world.deliver(sealed("first"))
    world.wait_for(lambda: len(world.printed) == 1)
    for number in range(100):
        for forged in range(5):
            world.deliver(sealed(f"forged {number} {forged}", key=KEYS[DAVE]))
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 601)
    assert world.printed[1:] == [f"alice.example says: number {number}" for number in range(100)]
    world.wait_for(lambda: "refused=500 refused_signature-invalid=500" in world.counters)
    assert world.dns.asked.count(ALICE) == 2


def test_genuine_messages_of_a_known_sender_do_not_wait_for_a_look_up_caused_by_a_forged_one(world: World) -> None:
    world.deliver(sealed("first"))
    world.wait_for(lambda: len(world.printed) == 1)
    silent = world.dns.answers[ALICE] = threading.Event()
    world.deliver(sealed("forged", key=KEYS[DAVE]))
    world.wait_for(lambda: world.dns.asked.count(ALICE) == 2)
    world.deliver(sealed("second"))
    world.wait_for(lambda: world.printed[1:] == ["alice.example says: second"])
    silent.set()
    world.wait_for(lambda: "refused_signature-invalid=1" in world.counters)


def test_forged_messages_in_a_proven_name_wait_among_strangers_during_a_dns_outage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN_BYTES", 10_000)
    prove(world, ALICE)
    world.dns.answers[ALICE] = OUT
    for number in range(100):
        world.deliver(sealed(f"forged {number}", key=KEYS[DAVE]))
    for number in range(5):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 105)
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: len(world.printed) == 5)
    assert world.printed == [f"alice.example says: number {number}" for number in range(5)]
    world.wait_until_nothing_waits()
    assert balance(world) == (105, 105)


def test_a_copy_of_a_deferred_message_takes_no_room(world: World) -> None:
    world.dns.answers[ALICE] = OUT
    payload = sealed("once")
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 1)
    for _ in range(10):
        world.deliver(payload)
    world.wait_for(lambda: "refused=10 refused_replay=10" in world.counters)
    assert world.stored() == [str(ALICE)]


def test_messages_of_a_sender_keep_their_order_while_its_deferred_ones_are_processed(world: World) -> None:
    world.dns.answers[ALICE] = OUT
    for number in range(100):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 100)
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    for number in range(100, 200):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.printed) == 200)
    assert world.printed == [f"alice.example says: number {number}" for number in range(200)]


def test_messages_stay_at_the_broker_if_dns_is_dead_and_the_store_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.authentication_stage.DEAD_DNS_SECONDS", 0.5)
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_RESERVED_BYTES", 4096)
    monkeypatch.setattr("messaging_receiver.waiting_index.RESERVED_ZONES", 1)
    prove(world, ALICE)
    world.dns.answers[ALICE] = world.dns.answers[BOB] = world.dns.answers[DAVE] = OUT
    world.deliver(sealed("number 0"))
    time.sleep(0.6)
    world.deliver(sealed("probe", DAVE))
    world.wait_for(lambda: BOB in world.dns.asked and len(world.settled) == 2)
    for number in range(1, 30):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: world.authentication.holds_back)
    time.sleep(0.5)
    assert 0 < len(world.settled) < 10
    world.dns.answers[ALICE] = world.dns.answers[BOB] = record_of(KEYS[ALICE])
    world.clock[0] += 120
    world.wait_for(lambda: len(world.settled) == 31)
    assert world.printed == [f"alice.example says: number {number}" for number in range(30)]
    assert "refused=0" in world.counters
    assert not world.authentication.holds_back


def test_silent_servers_of_one_owner_hold_no_other_messages_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.authentication_stage.DEAD_DNS_SECONDS", 0.0)
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_RESERVED_BYTES", 4096)
    world.dns.answers[BOB] = record_of(KEYS[BOB])
    world.deliver(sealed("first"))
    world.wait_for(lambda: len(world.printed) == 1)
    prove(world, DAVE)
    world.dns.answers[DAVE] = OUT
    for number in range(60):
        world.deliver(sealed(f"number {number}", DAVE))
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.printed) == 61)
    assert not world.authentication.holds_back


def test_deferred_messages_are_not_judged_again_for_each_new_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deliver(sealed("first"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = OUT
    for number in range(200):
        world.deliver(sealed(f"forged {number}", key=KEYS[DAVE]))
    world.wait_for(lambda: len(world.stored()) == 200)
    judged: list[int] = []
    judge = world.authentication._judge

    def count_and_judge(*arguments: Any) -> Any:
        judged.append(1)
        return judge(*arguments)

    monkeypatch.setattr(world.authentication, "_judge", count_and_judge)
    for number in range(10):
        world.deliver(sealed(f"forged again {number}", key=KEYS[DAVE]))
        time.sleep(0.1)
    world.wait_for(lambda: len(world.stored()) == 210)
    assert len(judged) < 100


def test_a_name_without_deferred_messages_is_not_looked_up_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN_BYTES", 1000)
    world.dns.answers[ALICE] = world.dns.answers[DAVE] = OUT
    world.deliver(sealed("kept"))
    world.wait_for(lambda: len(world.settled) == 1)
    world.deliver(sealed("refused", DAVE))
    world.wait_for(lambda: "refused_waiting-full=1" in world.counters)
    gone, kept = (ALICE, DAVE) if world.stored() == [str(DAVE)] else (DAVE, ALICE)
    time.sleep(0.5)
    asked = world.dns.asked.count(gone)
    for number in (1, 2):
        before = world.dns.asked.count(kept)
        world.clock[0] += 120
        world.wait_for(lambda before=before: world.dns.asked.count(kept) > before)  # type: ignore[misc]
        assert number
    assert world.dns.asked.count(gone) == asked


def test_a_strangers_message_is_refused_after_a_day_and_a_proven_names_still_waits(world: World) -> None:
    prove(world, ALICE)
    world.dns.answers[ALICE] = world.dns.answers[DAVE] = OUT
    world.deliver(sealed("proven"))
    world.deliver(sealed("strange", DAVE))
    world.wait_for(lambda: len(world.settled) == 2)
    world.clock[0] += MAX_WAITING_SECONDS + 60
    world.wait_for(lambda: "refused_waited-too-long=1" in world.counters)
    world.wait_for(lambda: world.stored() == [str(ALICE)])
    world.dns.answers[ALICE] = record_of(KEYS[ALICE])
    world.wait_for(lambda: world.printed == ["alice.example says: proven"])


def test_the_time_a_message_has_waited_does_not_depend_on_the_clock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.dns.answers[DAVE] = OUT
    world.deliver(sealed("patient", DAVE))
    world.wait_for(lambda: len(world.settled) == 1)
    real_time = time.time
    monkeypatch.setattr("time.time", lambda: real_time() + 2 * MAX_WAITING_SECONDS)
    asked = world.dns.asked.count(DAVE)
    world.clock[0] += 120
    world.wait_for(lambda: world.dns.asked.count(DAVE) > asked)
    world.dns.answers[DAVE] = record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed == ["dave.test says: patient"])


def test_the_time_a_message_has_waited_is_not_negative_if_the_replay_memory_is_lost(tmp_path: Path) -> None:
    erin = IdentityName("erin.test")
    KEYS[erin] = KEYS[DAVE]
    with open_world(tmp_path) as world:
        world.clock[0] += 30 * 24 * HOUR
        world.deliver(sealed("without a record", erin))
        world.wait_for(lambda: len(world.settled) == 1)
    for path in tmp_path.glob("replay.sqlite3*"):
        path.unlink()
    for _ in range(2):
        with open_world(tmp_path) as world:
            (entry,) = world.context.waiting_store.index()
            assert entry.deferred_at <= world.context.timekeeper.elapsed()
            assert world.authentication._deferral.waited(entry.number) < HOUR
    with open_world(tmp_path) as world:
        world.clock[0] += HOUR
        world.wait_for(lambda: "refused_sender-without-record=1" in world.counters)


def test_a_message_that_was_deferred_in_the_future_has_waited_for_no_time(world: World) -> None:
    world.dns.answers[ALICE] = OUT
    world.clock[0] += HOUR
    world.deliver(sealed("patient"))
    world.wait_for(lambda: len(world.stored()) == 1)
    world.clock[0] -= HOUR
    (entry,) = world.context.waiting_store.index()
    assert world.authentication._deferral.waited(entry.number) == 0.0


def test_a_message_signed_with_a_new_key_waits_if_the_look_up_fails(world: World) -> None:
    world.deliver(sealed("by the old key"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = OUT
    world.deliver(sealed("by the new key", key=KEYS[DAVE]))
    world.deliver(sealed("by the old key again"))
    world.wait_for(lambda: world.printed[1:] == ["alice.example says: by the old key again"])
    world.wait_for(lambda: len(world.stored()) == 1)
    world.dns.answers[ALICE] = record_of(KEYS[DAVE])
    world.clock[0] += 120
    world.wait_for(lambda: world.printed[2:] == ["alice.example says: by the new key"])


def test_a_message_from_a_name_without_a_record_waits_for_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.deferral._ABSENCE_SECONDS", (0.2, 0.4, 3600.0))
    world.dns.answers[DAVE] = NoRecordError("a server has not heard of it")
    world.deliver(sealed("I am new", DAVE))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.stored() == [str(DAVE)]
    world.dns.answers[DAVE] = record_of(KEYS[DAVE])
    world.clock[0] += 10
    world.wait_for(lambda: world.printed == ["dave.test says: I am new"])
    world.wait_for(lambda: balance(world) == (1, 1))


@pytest.mark.parametrize("first", [NoRecordError("it never had one"), OUT])
def test_messages_from_a_name_without_a_record_are_refused_after_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch, first: DiscoveryError
) -> None:
    monkeypatch.setattr("messaging_receiver.deferral._ABSENCE_SECONDS", (0.2, 0.4, 0.6))
    world.dns.answers[DAVE] = first
    world.deliver(sealed("too late", DAVE))
    world.wait_for(lambda: len(world.settled) == 1)
    assert "refused=0" in world.counters
    world.dns.answers[DAVE] = NoRecordError("it has none")
    world.clock[0] += 3600
    world.wait_for(lambda: "refused=1 refused_sender-without-record=1" in world.counters)
    world.wait_until_nothing_waits()


def test_only_a_few_messages_from_names_without_a_record_wait(world: World) -> None:
    for position in range(20):
        name = IdentityName(f"device-{position}.evil.test")
        KEYS[name] = KEYS[DAVE]
        for number in range(4):
            world.deliver(sealed(f"{number}", name))
    world.wait_for(lambda: "refused=72 refused_sender-without-record=72" in world.counters)
    world.wait_for(lambda: len(world.stored()) == 8)
    assert max(world.stored().count(name) for name in world.stored()) == 2
    world.wait_for(lambda: balance(world) == (80, 80))


def test_messages_of_a_proven_name_whose_record_is_gone_wait_in_the_area_of_trusted_names(world: World) -> None:
    prove(world, ALICE)
    world.dns.answers[ALICE] = NoRecordError("it is being replaced")
    for number in range(20):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 20)
    assert world.stored() == [str(ALICE)] * 20
    assert "refused=0" in world.counters


@pytest.mark.parametrize("is_restarted", [False, True])
def test_names_that_are_not_wanted_displace_no_wanted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_restarted: bool
) -> None:
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_OPEN", 4)
    names = [IdentityName(f"device.zone-{number}.test") for number in range(6)]
    KEYS.update(dict.fromkeys(names, KEYS[DAVE]))

    def flood(world: World, before: int = 0) -> None:
        for name in names:
            world.deliver(sealed("unwanted", name))
        world.wait_for(lambda: len(world.settled) == before + len(names))

    def expect_wanted(world: World) -> None:
        world.dns.answers[ALICE] = OUT
        world.deliver(sealed("wanted" * 100))
        world.wait_for(lambda: str(ALICE) in world.stored())

    if is_restarted:
        with open_world(tmp_path, wanted=NamePatterns((str(ALICE),))) as world:
            flood(world)
        with open_world(tmp_path, wanted=NamePatterns((str(ALICE),))) as world:
            expect_wanted(world)
            assert len(world.stored()) == 4
    else:
        with open_world(tmp_path, wanted=NamePatterns((str(ALICE),))) as world:
            expect_wanted(world)
            flood(world, before=1)
            assert str(ALICE) in world.stored()
            assert len(world.stored()) == 4
