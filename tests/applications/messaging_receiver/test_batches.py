"""Messages that a stage takes together: none waits for, or is decided with, what only concerns another."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.envelope import Binding, seal
from idlib.errors import StoreError, TemporaryDiscoveryError
from idlib.names import IdentityName
from idlib.settings import OutputFormat, load
from idlib.storage import Printed, ReplayEntry
from idlib.storage.printing import SolePrinting
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import WaitingMessages
from idlib.timekeeping import Timekeeper
from idlib.trust import PolicySource
from messaging_receiver.authentication_stage import AuthenticationStage
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.context import Context, Standings
from messaging_receiver.ending import Ending
from messaging_receiver.forwarding import message_printer
from messaging_receiver.opening import open_message
from messaging_receiver.queue_items import AuthenticatedMessage, DecryptedMessage, Origin, ReceivedMessage, size_of
from messaging_receiver.sinks.lines import line_of
from messaging_receiver.sinks.printing import Printing
from messaging_receiver.stage import Stage
from messaging_receiver.standard_output import StandardOutput
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, record_of, sealed

CAROL = IdentityName("carol.invalid")
OUT = TemporaryDiscoveryError("no answer")


class GatedDns:
    """DNS that is silent until the gate opens, then fails or answers."""

    def __init__(self) -> None:
        self.gate = {name: threading.Event() for name in (ALICE, DAVE, CAROL, BOB)}
        self.is_back = False

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        name = wanted.name
        self.gate[name].wait(30)
        if not self.is_back:
            raise OUT
        return AuthenticRecords((record_of(KEYS[name if name in KEYS else DAVE]),), 300, "made in a test")


class Bench:
    def __init__(self, memory: ReplayMemory, waiting: WaitingMessages) -> None:
        self.dns = GatedDns()
        settings = load({"IDENTITY_NAME": str(BOB), "ALLOWED_SENDERS": f"{ALICE},{DAVE},*.invalid"})
        policies = PolicySource(settings)
        standings = Standings(memory, policies)
        self.jump = 0.0
        self.context = Context(
            settings,
            memory,
            waiting,
            SolePrinting(memory, waiting),
            policies,
            standings,
            Discovery(self.dns, clock=lambda: self.jump + time.monotonic(), is_trusted=standings.is_surely_trusted),
            Timekeeper(memory),
            threading.Event(),
        )
        self.source: BoundedQueue[Any] = BoundedQueue(1024, 2**23, size_of)
        self.finished: BoundedQueue[Any] = BoundedQueue(4096, 2**23, size_of)
        self.stage = AuthenticationStage(self.context, self.source, self.finished)

    def put(self, payload: bytes) -> None:
        opened = open_message(payload, BOB, [KEYS[BOB]])
        self.source.put(
            DecryptedMessage(opened.signed, opened.digest, time.time(), Origin(None), opened.unverified, None)
        )

    def lines(self) -> list[str]:
        _, items = self.finished.take(4096, 2**30, 0.0)
        return [line_of(item.message, OutputFormat.TEXT) for item in items if isinstance(item, AuthenticatedMessage)]

    def work_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            self.stage.work()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ReplayMemory(tmp_path) as memory, WaitingMessages(tmp_path) as waiting:
        one = Bench(memory, waiting)
        yield one
        one.context.stopping.set()
        for gate in one.dns.gate.values():
            gate.set()


def test_results_of_look_ups_taken_together_are_used_while_messages_are_held_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.authentication_stage.DEAD_DNS_SECONDS", 0.5)
    monkeypatch.setattr("messaging_receiver.authentication_stage.HOLDING_SECONDS", 3.0)
    monkeypatch.setattr("messaging_receiver.authentication_stage.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("messaging_receiver.waiting_index.MAX_RESERVED_BYTES", 4096)
    monkeypatch.setattr("messaging_receiver.waiting_index.RESERVED_ZONES", 1)
    monkeypatch.setattr("messaging_receiver.deferral.FIRST_RETRY_SECONDS", 0.2)
    stage = bench.stage
    # A stranger's message, and messages of two trusted names that fill their area of the store.
    bench.put(sealed("stranger", CAROL, KEYS[DAVE]))
    bench.put(sealed("dave 0", DAVE))
    for number in range(30):
        bench.put(sealed(f"alice {number}"))
        if number == 1:
            bench.work_until(lambda: len(stage._deferral) == 4)
    bench.work_until(lambda: bench.source.qsize() == 0)
    assert stage._number_held == 28
    time.sleep(0.6)
    # The look-ups time out together: that of the stranger's name first, as it was asked first.
    for number, name in enumerate((CAROL, DAVE, ALICE), 1):
        bench.dns.gate[name].set()
        while bench.source._urgent < number:
            time.sleep(0.01)
    bench.work_until(lambda: stage.holds_back)
    # DNS is back.
    bench.dns.is_back = True
    bench.dns.gate[BOB].set()
    bench.jump = 120.0
    printed: list[str] = []
    deadline = time.monotonic() + 20
    while len(printed) < 32 and time.monotonic() < deadline:
        stage.work()
        printed += bench.lines()
    assert "refused=0" in str(bench.context.counters)
    assert len(printed) == 32


def test_a_message_that_expires_while_its_batch_waits_for_the_disk_is_not_printed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.authentication_stage.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("messaging_receiver.durable_writes.STORE_RETRY_SECONDS", 0.1)
    bench.dns.is_back = True
    bench.dns.gate[ALICE].set()
    bench.put(sealed("known"))
    bench.work_until(lambda: bench.lines() != [])
    bench.work_until(lambda: not len(bench.stage._deferral))
    # A message of a name that DNS does not answer for is about to be stored when the disk is full.
    now = int(time.time())
    bench.put(sealed("slow", DAVE))
    bench.stage.work()
    time.sleep(0.06)
    change = bench.context.waiting_store.change

    def change_later(*arguments: Any) -> Any:
        if time.time() < now + 4:
            raise StoreError("the disk is full")
        return change(*arguments)

    monkeypatch.setattr(bench.context.waiting_store, "change", change_later)
    bench.put(sealed("in time"))
    bench.put(
        seal(
            "late",
            sender=ALICE,
            signing_key=KEYS[ALICE],
            recipient=BOB,
            encryption_key=KEYS[BOB].public,
            binding=Binding.new(BOB, now, 2),
        )
    )
    for _ in range(3):
        bench.stage.work()
    assert time.time() >= now + 4
    assert bench.lines() == ['"alice.example says: in time"']
    assert "refused_expired=1" in str(bench.context.counters)


def entry(number: int) -> Printed:
    return Printed(
        ReplayEntry(str(ALICE), number.to_bytes(16), 1_800_000_000), "example", KEYS[ALICE].public.der, is_listed=True
    )


def received(text: str) -> ReceivedMessage:
    return ReceivedMessage(ALICE, text.encode(), None, "x", 1_800_000_000, 1_800_000_001.0)


class SlowReader:
    """A pipe whose reader takes one line of 4000 bytes each 0.2 s; the pipe itself holds one."""

    def __init__(self, seconds: float) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self.lines = 0
        self.seconds = seconds
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        while os.read(self.reader, 4096):
            self.lines += 1
            time.sleep(self.seconds)


def test_lines_that_a_slow_reader_has_read_before_a_stop_are_not_printed_again(bench: Bench) -> None:
    context, slow = bench.context, SlowReader(0.2)
    queue: BoundedQueue[Any] = BoundedQueue(1024, 2**23, size_of)
    for number in range(32):
        queue.put(AuthenticatedMessage(received("x" * 4000), entry(number), Origin(None)))
    printing: Stage[Any] = Stage(context, queue, queue)
    sink = Printing(StandardOutput(context.stopping, slow.writer), OutputFormat.TEXT)
    arguments = (printing, sink, lambda _: None, lambda _: None, Ending(context.stopping))
    thread = threading.Thread(target=message_printer, args=arguments, name="Forwarder", daemon=True)
    thread.start()
    time.sleep(1.0)
    stillest = context.movements.stillest()
    context.stopping.set()
    queue.close()
    # It is given some time, after which the process ends, as in `application.py`.
    thread.join(2.0)
    read = slow.lines
    recorded = sum(context.memory.verdict(entry(number).entry).name == "PRINTED" for number in range(32))
    assert read - recorded <= 2
    assert stillest is not None
    assert stillest[1] < 0.5


def test_a_decided_message_does_not_wait_while_others_are_stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.dns.is_back = True
    bench.dns.gate[ALICE].set()
    bench.put(sealed("known"))
    bench.work_until(lambda: bench.lines() != [])
    bench.work_until(lambda: not len(bench.stage._deferral))
    bench.put(sealed("slow", DAVE))
    bench.stage.work()
    time.sleep(0.06)
    change, disk = bench.context.waiting_store.change, threading.Event()

    def change_later(*arguments: Any) -> Any:
        disk.wait(10)
        return change(*arguments)

    monkeypatch.setattr(bench.context.waiting_store, "change", change_later)
    bench.put(sealed("decided"))
    worker = threading.Thread(target=bench.stage.work)
    worker.start()
    time.sleep(0.5)
    lines = bench.lines()
    disk.set()
    worker.join(10)
    assert lines == ['"alice.example says: decided"']
