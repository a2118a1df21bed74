"""A receiver in which DNS answers are made here and everything else is real."""

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from authentication import message_authentication_thread
from cryptography.hazmat.primitives.asymmetric import ec
from decryption import message_decryption_thread
from forwarding import message_printer
from pipeline import Pipeline
from receipts import ReceiptRequest
from standard_output import StandardOutput

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.envelope import Binding, seal
from idlib.errors import (
    DiscoveryError,
    NoRecordError,
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
    keys: dict[IdentityName, PrivateKey] = field(default_factory=KEYS.copy)

    def look_up(self, name: IdentityName) -> AuthenticRecords:
        self.asked.append(name)
        answer = self.answers.get(name, NoRecordError(f"{name} has no TLSA record"))
        if isinstance(answer, threading.Event):
            answer.wait(30)
            answer = record_of(self.keys[name])
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
