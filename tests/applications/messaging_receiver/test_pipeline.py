"""The stages together, with DNS answers made here and everything else real."""

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from authentication import MAX_ASIDE, message_authentication_thread
from cryptography.hazmat.primitives.asymmetric import ec
from decryption import message_decryption_thread
from forwarding import message_printer
from pipeline import Pipeline
from receipts import ReceiptRequest
from standard_output import StandardOutput
from waiting_room import MAX_WAITING_FOR_A_STRANGER, MAX_WAITING_SECONDS

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.envelope import Binding, seal, seal_receipt
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    StoreError,
    TemporaryDiscoveryError,
)
from idlib.names import IdentityName
from idlib.settings import load
from idlib.store import Store
from idlib.transport import Delivery
from idlib.trust import Policy, ReplayGuard

ALICE = IdentityName("alice.example")
BOB = IdentityName("bob.example")
DAVE = IdentityName("dave.example")
KEYS = {name: PrivateKey(ec.generate_private_key(ec.SECP256R1())) for name in (ALICE, BOB, DAVE)}


def record_of(key: PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return bytes([3, 1, 0]) + public


@dataclass
class Dns:
    """Stands where DNS does, below everything that decides what its answers mean."""

    answers: dict[IdentityName, bytes | DiscoveryError | threading.Event]
    asked: list[IdentityName] = field(default_factory=list)

    def look_up(self, name: IdentityName) -> AuthenticRecords:
        self.asked.append(name)
        answer = self.answers.get(name, NoRecordError(f"{name} has no TLSA record"))
        if isinstance(answer, threading.Event):
            answer.wait(30)
            answer = record_of(KEYS[name])
        if isinstance(answer, DiscoveryError):
            raise answer
        return AuthenticRecords((answer,), 300, "made in a test")


@dataclass
class World:
    pipeline: Pipeline
    dns: Dns
    settled: list[Delivery]
    confirmed: list[ReceiptRequest]
    clock: list[float]
    deliver: Callable[[bytes], Delivery]
    reader: int
    unread: bytes = b""
    printed: list[str] = field(default_factory=list)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"printed {self.printed}; {self.pipeline.counters}"
            self.read()
            time.sleep(0.01)
        self.read()

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(self.reader, 65536):
                self.unread += octets
        *lines, self.unread = self.unread.split(b"\n")
        self.printed += [json.loads(line) for line in lines]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Store(tmp_path) as store:
        yield from run_world(store)


def run_world(store: Store) -> Iterator[World]:
    dns = Dns({ALICE: record_of(KEYS[ALICE]), DAVE: record_of(KEYS[DAVE])})
    settled: list[Delivery] = []
    confirmed: list[ReceiptRequest] = []
    clock = [0.0]
    pipeline = Pipeline(
        load({"IDENTITY_NAME": str(BOB)}),
        store,
        Policy(BOB),
        ReplayGuard(store),
        Discovery(dns, clock=lambda: clock[0] + time.monotonic()),
        queue.Queue(1024),
        queue.Queue(1024),
        queue.Queue(1024),
        settled.append,
        confirmed.append,
    )
    # A pipe of our own, for pytest's capture can lose what is written while it is read.
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    object.__setattr__(pipeline, "stdout", StandardOutput(pipeline.stopping, writer))

    def deliver(payload: bytes) -> Delivery:
        delivery = Delivery(payload, time.time())
        pipeline.encrypted.put(delivery)
        return delivery

    threads = [
        threading.Thread(target=message_decryption_thread, args=(pipeline, lambda: [KEYS[BOB]])),
        threading.Thread(target=message_authentication_thread, args=(pipeline,)),
        threading.Thread(target=message_printer, args=(pipeline,)),
    ]
    for thread in threads:
        thread.start()
    yield World(pipeline, dns, settled, confirmed, clock, deliver, reader)
    pipeline.stopping.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    os.close(reader)
    os.close(writer)


def sealed(
    text: str, sender: IdentityName = ALICE, key: PrivateKey | None = None, *, ask_for_receipt: bool = False
) -> bytes:
    return seal(
        text,
        sender=sender,
        signing_key=key or KEYS[sender],
        recipient=BOB,
        encryption_key=KEYS[BOB].public,
        binding=Binding.new(BOB, int(time.time())),
        ask_for_receipt=ask_for_receipt,
    )


def test_messages_are_printed_in_order_and_settled_in_order(world: World) -> None:
    deliveries = [world.deliver(sealed(f"number {number}")) for number in range(50)]
    world.wait_for(lambda: len(world.settled) == 50)
    assert world.settled == deliveries
    assert world.printed == [f"alice.example says: number {number}" for number in range(50)]


def test_many_messages_of_one_sender_cost_one_question(world: World) -> None:
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
    assert "refused=0" in str(world.pipeline.counters)


def test_a_refused_message_is_settled_too_and_stops_nothing(world: World) -> None:
    world.deliver(b"\xff{")
    world.deliver(sealed("forged", key=KEYS[DAVE]))
    world.deliver(sealed("good"))
    world.wait_for(lambda: len(world.settled) == 3)
    assert world.printed == ["alice.example says: good"]
    assert "refused=2 refused_outer-malformed=1 refused_signature-invalid=1" in str(world.pipeline.counters)


def test_a_message_that_comes_twice_is_printed_once(world: World) -> None:
    payload = sealed("once")
    world.deliver(payload)
    world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed == ["alice.example says: once"]
    assert "refused_replay=1" in str(world.pipeline.counters)


def test_a_receipt_is_written_once_for_a_message_that_asks_and_is_printed(world: World) -> None:
    asking = sealed("please confirm", ask_for_receipt=True)
    for payload in (sealed("asks for nothing"), asking, asking, sealed("forged", key=KEYS[DAVE], ask_for_receipt=True)):
        world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 4)
    assert [request.sender for request in world.confirmed] == [ALICE]
    assert len(world.printed) == 2


def test_a_receipt_that_comes_here_is_dropped_before_dns_is_asked(
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
    assert "refused_receipt=1" in str(world.pipeline.counters)
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("verdict", [NoRecordError("no record"), NotSecureError("not signed")])
def test_a_verdict_of_dns_refuses_the_message(world: World, verdict: DiscoveryError) -> None:
    world.dns.answers[ALICE] = verdict
    world.deliver(sealed("lost"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.waiting_senders() == ()
    assert "refused=1" in str(world.pipeline.counters)


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
    monkeypatch.setattr("waiting_room._FIRST_RETRY_SECONDS", 0.3)
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


def test_one_senders_slow_dns_holds_up_no_other_senders_messages(world: World) -> None:
    answer = threading.Event()
    world.dns.answers[DAVE] = answer
    world.deliver(sealed("slow", DAVE))
    world.deliver(sealed("fast"))
    world.wait_for(lambda: world.printed == ["alice.example says: fast"])
    answer.set()
    world.wait_for(lambda: len(world.printed) == 2)
    assert world.printed[1] == "dave.example says: slow"


def test_a_burst_while_the_sender_is_looked_up_is_acknowledged_and_printed_whole_and_in_order(world: World) -> None:
    answer = threading.Event()
    world.dns.answers[DAVE] = answer
    number_of_messages = MAX_ASIDE + 50
    for number in range(number_of_messages):
        world.deliver(sealed(f"number {number}", DAVE))
    world.wait_for(lambda: len(world.settled) == number_of_messages)
    assert world.printed == []
    for number in range(number_of_messages, number_of_messages + 3):
        world.deliver(sealed(f"number {number}", DAVE))
    answer.set()
    world.wait_for(lambda: len(world.printed) == number_of_messages + 3)
    assert world.printed == [f"dave.example says: number {number}" for number in range(number_of_messages + 3)]
    assert "refused=0" in str(world.pipeline.counters)
    world.wait_for(lambda: world.pipeline.store.number_waiting() == 0)


def test_a_message_that_stands_aside_is_soon_acknowledged(world: World) -> None:
    answer = threading.Event()
    world.dns.answers[DAVE] = answer
    world.deliver(sealed("slow", DAVE))
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.number_waiting() == 1
    answer.set()
    world.wait_for(lambda: world.printed == ["dave.example says: slow"])


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


def test_a_new_key_of_a_known_sender_is_asked_for_once_more_before_the_verdict(world: World) -> None:
    world.deliver(sealed("by the old key"))
    world.wait_for(lambda: len(world.printed) == 1)
    world.dns.answers[ALICE] = record_of(KEYS[DAVE])
    world.deliver(sealed("by the new key", key=KEYS[DAVE]))
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed[1] == "alice.example says: by the new key"


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
    monkeypatch.setattr("waiting_room._FIRST_RETRY_SECONDS", 0.3)
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


def test_a_look_up_that_fails_in_an_unforeseen_way_refuses_the_message_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = world.pipeline.discovery.find

    def fail_for_dave(name: IdentityName) -> object:
        if name == DAVE:
            raise ZeroDivisionError
        return find(name)

    monkeypatch.setattr(Discovery, "find", lambda _, name: fail_for_dave(name))
    world.deliver(sealed("unlucky", DAVE))
    world.deliver(sealed("lucky"))
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed == ["alice.example says: lucky"]
    assert "refused_internal-error=1" in str(world.pipeline.counters)


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
    repaired = threading.Event()
    failing(world.pipeline.store, method, repaired, monkeypatch)
    for number in range(100):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: world.pipeline.store_outage.cause is not None)
    assert world.settled == []
    time.sleep(0.3)
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 100)
    assert world.printed == [f"alice.example says: number {number}" for number in range(100)]
    assert world.pipeline.store_outage.cause is None
    assert sum("Messages wait for the disk" in line for line in caplog.messages) == 1
    assert "refused=0" in str(world.pipeline.counters)


@pytest.mark.parametrize("method", ["keep_waiting", "forget_newest_waiting", "number_waiting"])
def test_what_is_to_wait_waits_for_the_disk_first(world: World, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repaired = threading.Event()
    failing(world.pipeline.store, method, repaired, monkeypatch)
    world.dns.answers[DAVE] = TemporaryDiscoveryError("no answer")
    world.deliver(sealed("patient", DAVE))
    world.wait_for(lambda: world.pipeline.store_outage.cause is not None)
    assert world.settled == []
    repaired.set()
    world.wait_for(lambda: len(world.settled) == 1)
    assert world.pipeline.store.number_waiting() == 1
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
