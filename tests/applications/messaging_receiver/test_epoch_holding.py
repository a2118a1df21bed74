"""Messages to epoch keys that another receiver may just have created are held, and delay no others."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlib import base64url
from idlib.epochs import KEY_ID_OCTETS, SEED_OCTETS, EpochPrivateKey, IdentifiedEpochKey
from idlib.transport import Delivery
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.decryption import Turns, message_decryption_thread
from messaging_receiver.epoch_holding import LOOKING_SECONDS, MAX_HELD_BYTES, MAX_HELD_MESSAGES, HeldMessages
from messaging_receiver.epoch_threads import HeldOpening
from messaging_receiver.opening import LocalOpener
from messaging_receiver.own_epochs import NoOwnEpochs
from messaging_receiver.queue_items import AuthenticatedMessage, DecryptedMessage, LookupResult, SettledMessage, size_of
from messaging_receiver.stage import Stage
from tests.applications.messaging_receiver.world import BOB, KEYS, World, open_world, sealed


def new_id() -> str:
    return base64url.encode(secrets.token_bytes(KEY_ID_OCTETS))


class Epochs(NoOwnEpochs):
    """The epoch keys of a receiver of a group."""

    def __init__(self) -> None:
        self.keys: Mapping[str, EpochPrivateKey] = {}
        self.expected: set[str] = set()

    def may_appear(self, key_id: str) -> bool:
        return key_id in self.expected


@dataclass
class Rig:
    """The holding, with a clock that stands still."""

    epochs: Epochs = field(default_factory=Epochs)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.held = HeldMessages(self.epochs, lambda: self.now)

    def expect(self) -> str:
        key_id = new_id()
        self.epochs.expected.add(key_id)
        return key_id

    def hold(self, key_id: str, payload: bytes = b"message") -> bool:
        return self.held.hold(Delivery(payload, 0.0), key_id)

    def take(self) -> tuple[list[bytes], list[bytes]]:
        found, lost = self.held.take()
        return [one.delivery.payload for one in found], [one.delivery.payload for one in lost]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_message_is_held_until_its_key_is_there(rig: Rig) -> None:
    key_id = rig.expect()
    assert rig.hold(key_id, b"first")
    assert rig.hold(key_id, b"second")
    assert rig.take() == ([], [])
    rig.epochs.keys = {key_id: EpochPrivateKey(secrets.token_bytes(SEED_OCTETS))}
    assert rig.take() == ([b"first", b"second"], [])
    assert rig.take() == ([], [])


def test_a_key_that_does_not_appear_is_looked_for_for_ten_seconds_and_later_messages_are_refused_at_once(
    rig: Rig,
) -> None:
    key_id = rig.expect()
    assert rig.hold(key_id)
    rig.now += LOOKING_SECONDS - 1
    assert rig.hold(key_id, b"later")
    assert rig.take() == ([], [])
    rig.now += 1
    assert rig.take() == ([], [b"message", b"later"])
    assert not rig.hold(key_id)
    rig.now += 3600
    assert rig.hold(key_id)


def test_a_message_to_a_key_that_cannot_be_the_devices_is_not_held(rig: Rig) -> None:
    assert not rig.hold(new_id())
    key_id = rig.expect()
    assert rig.hold(key_id)
    rig.epochs.expected.clear()
    assert rig.take() == ([], [b"message"])


def test_only_a_limited_number_of_messages_is_held(rig: Rig) -> None:
    key_id = rig.expect()
    assert [rig.hold(key_id) for _ in range(MAX_HELD_MESSAGES)] == [True] * MAX_HELD_MESSAGES
    assert not rig.hold(key_id)


def test_only_a_limited_number_of_bytes_is_held(rig: Rig) -> None:
    key_id = rig.expect()
    assert rig.hold(key_id, bytes(MAX_HELD_BYTES))
    assert not rig.hold(key_id, b"1")


def test_many_other_ids_do_not_prolong_the_time_for_a_message(rig: Rig) -> None:
    key_id = rig.expect()
    assert rig.hold(key_id)
    for _ in range(1000):
        rig.hold(rig.expect())
    rig.now += LOOKING_SECONDS
    assert rig.take()[1]
    assert rig.take() == ([], [])


@dataclass
class Line:
    """The Decryption stage with a holding, and its queues."""

    world: World
    rig: Rig

    def __post_init__(self) -> None:
        self.encrypted: BoundedQueue[Delivery] = BoundedQueue(64, 2**20, size_of)
        self.decrypted: BoundedQueue[DecryptedMessage | LookupResult] = BoundedQueue(64, 2**20, size_of)
        self.finished: BoundedQueue[AuthenticatedMessage | SettledMessage] = BoundedQueue(64, 2**20, size_of)
        self.stage = Stage(self.world.context, self.encrypted, self.finished)
        self.looks: list[None] = []
        keys = lambda: [KEYS[BOB]]  # noqa: E731
        epochs = self.rig.epochs
        self.opening = HeldOpening(
            self.stage, self.decrypted, keys, epochs, self.rig.held, lambda: self.looks.append(None)
        )
        self.thread = threading.Thread(
            target=message_decryption_thread,
            args=(self.stage, self.decrypted, keys, LocalOpener(), Turns(), epochs, self.rig.held.hold),
        )
        self.thread.start()

    def next_digest(self) -> bytes:
        item = self.decrypted.get(timeout=20)
        assert isinstance(item, DecryptedMessage)
        return item.digest

    def close(self) -> None:
        self.world.context.stopping.set()
        self.encrypted.close()
        self.thread.join(20)


@pytest.fixture
def line(tmp_path: Path, rig: Rig) -> Iterator[Line]:
    with open_world(tmp_path) as world:
        line = Line(world, rig)
        yield line
        line.close()


def test_messages_behind_a_held_one_are_opened_and_the_held_one_once_its_key_is_there(line: Line) -> None:
    key, key_id = EpochPrivateKey(secrets.token_bytes(SEED_OCTETS)), line.rig.expect()
    held = Delivery(sealed("held", to=IdentifiedEpochKey(key_id, key.public)), 0.0)
    for delivery in (held, Delivery(sealed("other"), 0.0)):
        line.encrypted.put(delivery)
    first = line.next_digest()
    line.opening.work()
    assert line.finished.qsize() == line.decrypted.qsize() == 0
    line.rig.epochs.keys = {key_id: key}
    line.opening.work()
    assert line.next_digest() != first
    assert line.finished.qsize() == 0


def test_a_held_message_whose_key_does_not_appear_is_refused(line: Line) -> None:
    key, key_id = EpochPrivateKey(secrets.token_bytes(SEED_OCTETS)), line.rig.expect()
    held = Delivery(sealed("held", to=IdentifiedEpochKey(key_id, key.public)), 0.0)
    line.encrypted.put(held)
    assert line.rig.held.wait(20)
    line.rig.now += LOOKING_SECONDS
    line.opening.work()
    settled = line.finished.get(timeout=20)
    assert settled.origin.packet is held.packet
    assert line.world.counters.count("refused=1")


def test_a_made_up_id_is_refused_at_once(line: Line) -> None:
    key = EpochPrivateKey(secrets.token_bytes(SEED_OCTETS))
    line.encrypted.put(Delivery(sealed("junk", to=IdentifiedEpochKey(new_id(), key.public)), 0.0))
    assert isinstance(line.finished.get(timeout=20), SettledMessage)
