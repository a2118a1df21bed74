"""A receiver with simulated DNS answers; everything else is real."""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec

from idlib import base64url
from idlib.algorithms import PrivateKey, PublicKey
from idlib.discovery import Discovery
from idlib.discovery.authentication import AuthenticRecords
from idlib.discovery.lookup import LookUp
from idlib.envelope import Binding, seal
from idlib.epochs import KEY_ID_OCTETS, SEED_OCTETS, EpochPrivateKey, IdentifiedEpochKey
from idlib.errors import DiscoveryError, NoRecordError
from idlib.names import IdentityName, NamePatterns
from idlib.settings import load
from idlib.storage import PrintingStore, ReplayStore, WaitingStore
from idlib.storage.printing import SolePrinting
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import WaitingMessages
from idlib.timekeeping import Timekeeper
from idlib.transport import Delivery, ReceivedPacket
from idlib.trust import PolicySource
from messaging_receiver.authentication_stage import EVERYONE, AuthenticationStage, message_authentication_thread
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.context import Context, Standings
from messaging_receiver.decryption import Turns, message_decryption_thread
from messaging_receiver.ending import Ending
from messaging_receiver.forwarding import message_printer
from messaging_receiver.opening import LocalOpener
from messaging_receiver.own_epochs import NoOwnEpochs
from messaging_receiver.queue_items import AuthenticatedMessage, DecryptedMessage, LookupResult, SettledMessage, size_of
from messaging_receiver.receipt_requests import ReceiptRequest
from messaging_receiver.sinks.printing import Printing
from messaging_receiver.stage import Stage
from messaging_receiver.standard_output import StandardOutput
from messaging_receiver.workers.key_ring import fingerprint
from messaging_receiver.workers.pool import Starter, WorkerPool

ALICE = IdentityName("alice.example")
BOB = IdentityName("bob.example")
DAVE = IdentityName("dave.test")
KEYS = {name: PrivateKey(ec.generate_private_key(ec.SECP256R1())) for name in (ALICE, BOB, DAVE)}
# The system seems to start with the tests: a day later, a clock that was never set would be trusted.
_STARTED_AT = time.monotonic()


class Epochs(NoOwnEpochs):
    """Bob's epoch keys: one."""

    ids: tuple[str, ...] = (base64url.encode(secrets.token_bytes(KEY_ID_OCTETS)),)
    keys = MappingProxyType({ids[0]: EpochPrivateKey(secrets.token_bytes(SEED_OCTETS))})

    @property
    def public(self) -> IdentifiedEpochKey:
        """The public half."""
        ((key_id, key),) = self.keys.items()
        return IdentifiedEpochKey(key_id, key.public)


EPOCHS = Epochs()


def record_of(key: PrivateKey) -> bytes:
    return bytes([3, 1, 0]) + key.public.der


@dataclass
class Dns:
    """A fake source of DNS answers, in place of the resolver."""

    answers: dict[IdentityName, bytes | DiscoveryError | threading.Event]
    asked: list[IdentityName] = field(default_factory=list)

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        name = wanted.name
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
    context: Context
    authentication: AuthenticationStage
    dns: Dns
    settled: list[ReceivedPacket]
    confirmed: list[ReceiptRequest]
    clock: list[float]
    deliver: Callable[[bytes], ReceivedPacket]
    reader: int
    unread: bytes = b""
    printed: list[str] = field(default_factory=list)

    @property
    def counters(self) -> str:
        return str(self.context.counters)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, f"printed {self.printed}; {self.counters}"
            self.read()
            time.sleep(0.01)
        self.read()

    def wait_until_nothing_waits(self) -> None:
        self.wait_for(lambda: self.stored() == [])

    def stored(self) -> list[str]:
        """Return the senders of the stored messages."""
        return [entry.sender for entry in self.context.waiting_store.index()]

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(self.reader, 65536):
                self.unread += octets
        *lines, self.unread = self.unread.split(b"\n")
        self.printed += [json.loads(line) for line in lines]


@contextlib.contextmanager
def open_world(
    directory: Path, starter: Starter | None = None, wanted: NamePatterns = EVERYONE, **settings: str
) -> Iterator[World]:
    """Run a receiver; with something that starts workers, it has three of them."""
    with (
        WaitingMessages(directory) as waiting,
        open_world_with(directory, waiting, starter, wanted, None, **settings) as one,
    ):
        yield one


@contextlib.contextmanager
def open_world_with(
    directory: Path,
    waiting: WaitingStore,
    starter: Starter | None = None,
    wanted: NamePatterns = EVERYONE,
    dns: Dns | None = None,
    **settings: str,
) -> Iterator[World]:
    """Run a receiver that defers messages in a store."""
    with (
        ReplayMemory(directory) as memory,
        open_world_in(memory, waiting, SolePrinting(memory, waiting), starter, wanted, dns, **settings) as one,
    ):
        yield one


@contextlib.contextmanager
def open_world_in(
    memory: ReplayStore,
    waiting: WaitingStore,
    printing: PrintingStore,
    starter: Starter | None = None,
    wanted: NamePatterns = EVERYONE,
    dns: Dns | None = None,
    **environment: str,
) -> Iterator[World]:
    """Run a receiver with given stores."""
    dns = dns or Dns({ALICE: record_of(KEYS[ALICE]), DAVE: record_of(KEYS[DAVE])})
    settled: list[ReceivedPacket] = []
    confirmed: list[ReceiptRequest] = []
    clock = [0.0]
    settings = load({"IDENTITY_NAME": str(BOB), **environment})
    policies = PolicySource(settings)
    standings = Standings(memory, policies)
    context = Context(
        settings,
        memory,
        waiting,
        printing,
        policies,
        standings,
        Discovery(dns, clock=lambda: clock[0] + time.monotonic(), is_trusted=standings.is_surely_trusted),
        Timekeeper(memory, boot_clock=lambda: clock[0] + time.monotonic() - _STARTED_AT),
        threading.Event(),
    )
    encrypted: BoundedQueue[Delivery] = BoundedQueue(1024, 2**23, size_of)
    decrypted: BoundedQueue[DecryptedMessage | LookupResult] = BoundedQueue(1024, 2**23, size_of)
    authenticated: BoundedQueue[AuthenticatedMessage | SettledMessage] = BoundedQueue(1024, 2**23, size_of)
    # A pipe of our own, because pytest's capture can lose what is written while it is read.
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    sink = Printing(StandardOutput(context.stopping, writer), settings.output_format)
    ending = Ending(context.stopping)
    reception = Stage(context, encrypted, authenticated)
    pool = None
    if starter is not None:
        known = (fingerprint(KEYS[BOB]),)
        pool = WorkerPool(starter, 3, lambda: known, context.stopping, context.movements.note)
    openers = (LocalOpener(),) if pool is None else pool.openers
    turns = Turns()
    learn = (lambda *_: None) if pool is None else pool.senders.learn
    authentication = AuthenticationStage(context, decrypted, authenticated, learn, wanted)
    forwarding = Stage(context, authenticated, authenticated)

    def deliver(payload: bytes) -> ReceivedPacket:
        context.counters.count_received()
        delivery = Delivery(payload, time.time())
        encrypted.put(delivery)
        return delivery.packet

    threads = [
        *(
            threading.Thread(
                target=message_decryption_thread,
                args=(reception, decrypted, lambda: [KEYS[BOB]], opener, turns, EPOCHS),
                name=f"Decryption-{number}",
            )
            for number, opener in enumerate(openers)
        ),
        threading.Thread(target=message_authentication_thread, args=(authentication,)),
        threading.Thread(target=message_printer, args=(forwarding, sink, settled.extend, confirmed.append, ending)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield World(context, authentication, dns, settled, confirmed, clock, deliver, reader)
    finally:
        context.stopping.set()
        for one in (encrypted, decrypted, authenticated):
            one.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        os.close(reader)
        os.close(writer)


def sealed(
    text: str,
    sender: IdentityName = ALICE,
    key: PrivateKey | None = None,
    *,
    ask_for_receipt: bool = False,
    to: PublicKey | IdentifiedEpochKey = KEYS[BOB].public,
) -> bytes:
    return seal(
        text,
        sender=sender,
        signing_key=key or KEYS[sender],
        recipient=BOB,
        encryption_key=to,
        binding=Binding.new(BOB, int(time.time())),
        ask_for_receipt=ask_for_receipt,
    )
