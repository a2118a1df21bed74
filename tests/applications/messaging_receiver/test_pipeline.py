"""The stages together, with simulated DNS answers; everything else is real."""

import threading
import time

import pytest

from idlib.discovery import Discovery
from idlib.envelope import Binding, seal_receipt
from idlib.errors import (
    DiscoveryError,
    NotSecureError,
    NoUsableRecordError,
)
from idlib.names import IdentityName
from messaging_receiver.authentication_stage import MAX_HELD
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, World, record_of, sealed


def test_messages_are_printed_and_settled_in_order(world: World) -> None:
    deliveries = [world.deliver(sealed(f"number {number}")) for number in range(50)]
    world.wait_for(lambda: len(world.settled) == 50)
    assert world.settled == deliveries
    assert world.printed == [f"alice.example says: number {number}" for number in range(50)]


def test_many_messages_of_one_sender_need_one_look_up(world: World) -> None:
    for number in range(50):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.settled) == 50)
    assert world.dns.asked == [ALICE]


def test_no_key_is_prepared_and_no_file_is_opened_for_a_message_of_a_known_sender(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deliver(sealed("first"))
    world.wait_for(lambda: len(world.printed) == 1)
    payloads = [sealed(f"number {number}") for number in range(20)]
    for forbidden in ("idlib.algorithms.PublicKey.__post_init__", "idlib.algorithms.PrivateKey.__post_init__"):
        monkeypatch.setattr(forbidden, lambda _: pytest.fail("a key was prepared"))
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was opened"))
    for payload in payloads:
        world.deliver(payload)
    world.wait_for(lambda: len(world.printed) == 21)
    assert "refused=0" in world.counters


def test_a_refused_message_is_settled_and_stops_no_other(world: World) -> None:
    world.deliver(b"\xff{")
    world.deliver(sealed("forged", key=KEYS[DAVE]))
    world.deliver(sealed("good"))
    world.wait_for(lambda: len(world.settled) == 3)
    assert world.printed == ["alice.example says: good"]
    assert "refused=2 refused_outer-malformed=1 refused_signature-invalid=1" in world.counters


def test_a_message_that_arrives_twice_is_printed_once(world: World) -> None:
    payload = sealed("once")
    world.deliver(payload)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed == ["alice.example says: once"]
    assert "refused_replay=1" in world.counters


def test_a_printed_message_that_asks_for_a_receipt_gets_exactly_one(world: World) -> None:
    asking = sealed("please confirm", ask_for_receipt=True)
    for payload in (sealed("asks for nothing"), asking, asking, sealed("forged", key=KEYS[DAVE], ask_for_receipt=True)):
        world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 4)
    assert [request.sender for request in world.confirmed] == [ALICE]
    assert len(world.printed) == 2


def test_a_receipt_that_arrives_here_is_refused_without_a_look_up(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    receipt = seal_receipt(
        "some message",
        sender=ALICE,
        signing_key=KEYS[ALICE],
        encryption_key=KEYS[BOB].public,
        binding=Binding.new(BOB, int(time.time())),
    )
    with caplog.at_level("INFO"):
        world.deliver(receipt)
        world.wait_for(lambda: len(world.settled) == 1)
    assert (world.printed, world.confirmed, world.dns.asked) == ([], [], [])
    assert "refused_receipt=1" in world.counters
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("verdict", [NoUsableRecordError("only digests"), NotSecureError("not signed")])
def test_a_definite_answer_of_dns_refuses_the_message(world: World, verdict: DiscoveryError) -> None:
    world.dns.answers[ALICE] = verdict
    world.deliver(sealed("lost"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.stored() == []
    assert "refused=1" in world.counters


def test_slow_dns_for_one_sender_delays_no_other_senders_messages(world: World) -> None:
    answer = threading.Event()
    world.dns.answers[DAVE] = answer
    world.deliver(sealed("slow", DAVE))
    world.deliver(sealed("fast"))
    world.wait_for(lambda: world.printed == ["alice.example says: fast"])
    answer.set()
    world.wait_for(lambda: len(world.printed) == 2)
    assert world.printed[1] == "dave.test says: slow"


def test_a_burst_during_a_look_up_is_acknowledged_and_printed_completely_and_in_order(world: World) -> None:
    answer = threading.Event()
    world.dns.answers[DAVE] = answer
    number_of_messages = MAX_HELD + 50
    for number in range(number_of_messages):
        world.deliver(sealed(f"number {number}", DAVE))
    world.wait_for(lambda: len(world.settled) == number_of_messages)
    assert world.printed == []
    for number in range(number_of_messages, number_of_messages + 3):
        world.deliver(sealed(f"number {number}", DAVE))
    answer.set()
    world.wait_for(lambda: len(world.printed) == number_of_messages + 3)
    assert world.printed == [f"dave.test says: number {number}" for number in range(number_of_messages + 3)]
    assert "refused=0" in world.counters
    world.wait_until_nothing_waits()


def test_a_message_held_in_memory_is_soon_acknowledged(world: World) -> None:
    answer = threading.Event()
    world.dns.answers[DAVE] = answer
    world.deliver(sealed("slow", DAVE))
    world.wait_for(lambda: len(world.settled) == 1)
    assert len(world.stored()) == 1
    answer.set()
    world.wait_for(lambda: world.printed == ["dave.test says: slow"])


def test_names_of_one_dead_domain_leave_room_for_the_look_ups_of_others(world: World) -> None:
    dead = threading.Event()
    for number in range(300):
        name = IdentityName(f"device-{number}.dead.example")
        KEYS[name] = KEYS[DAVE]
        world.dns.answers[name] = dead
        world.deliver(sealed("nobody", name))
    fresh = IdentityName("fresh.alive.test")
    KEYS[fresh] = KEYS[ALICE]
    world.dns.answers[fresh] = record_of(KEYS[ALICE])
    world.deliver(sealed("hello", fresh))
    world.wait_for(lambda: world.printed == ["fresh.alive.test says: hello"])
    dead.set()


def test_a_known_sender_is_looked_up_again_before_its_message_is_refused_for_an_unknown_key(world: World) -> None:
    world.deliver(sealed("by the old key"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = record_of(KEYS[DAVE])
    world.deliver(sealed("by the new key", key=KEYS[DAVE]))
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed[1] == "alice.example says: by the new key"


def test_an_internal_error_of_a_look_up_refuses_the_senders_message_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = world.context.discovery.find

    def fail_for_dave(name: IdentityName) -> object:
        if name == DAVE:
            raise ZeroDivisionError
        return find(name)

    monkeypatch.setattr(Discovery, "find", lambda _, name: fail_for_dave(name))
    world.deliver(sealed("unlucky", DAVE))
    world.deliver(sealed("lucky"))
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed == ["alice.example says: lucky"]
    assert "refused_internal-error=1" in world.counters
