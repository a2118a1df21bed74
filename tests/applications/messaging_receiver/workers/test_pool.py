"""Batches go to workers, which are replaced if they end; a message that ends them is refused. Workers are threads."""

import errno
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from idlib.algorithms import PrivateKey
from idlib.errors import Reason, Refusal
from idlib.keys import encode_private_key, generate_private_key, key_path, previous_key_paths
from idlib.names import IdentityName
from idlib.settings import KeyType
from messaging_receiver.opening import OpenedMessage, Outcome
from messaging_receiver.workers import pool
from messaging_receiver.workers.key_ring import KeyRing, fingerprint
from messaging_receiver.workers.pool import KnownSenders, WorkerOpener, WorkerPool
from messaging_receiver.workers.process import MAX_SENDERS
from messaging_receiver.workers.protocol import SenderKeys
from tests.applications.messaging_receiver.workers.threads import Mortal, ThreadStarter
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, EPOCHS, KEYS, sealed


@dataclass
class Rig:
    pool: WorkerPool
    starter: ThreadStarter
    directory: Path
    stopping: threading.Event
    keys: list[PrivateKey]
    chance: list[Callable[[], bool]]

    @property
    def opener(self) -> WorkerOpener:
        return self.pool.openers[0]

    def open(self, *payloads: bytes) -> list[str]:
        """Return the texts and the reasons of refusals."""
        self.opener.begin(payloads)
        outcomes = self.opener.finish()
        assert outcomes is not None
        return [shown(outcome) for outcome in outcomes]


def shown(outcome: Outcome) -> str:
    match outcome:
        case OpenedMessage():
            return outcome.unverified.unverified_content.decode()
        case Refusal():
            return f"{outcome.reason}: {outcome.fact}"
        case None:
            return "left"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    key_path(tmp_path, BOB).write_bytes(encode_private_key(KEYS[BOB]))
    keys = [KEYS[BOB]]
    stopping = threading.Event()
    chance: list[Callable[[], bool]] = [lambda: False]

    def draw() -> bool:
        return chance[0]()

    starter = ThreadStarter(lambda: Mortal(BOB, KeyRing(tmp_path, BOB), draw))
    rig = Rig(
        WorkerPool(starter, 1, lambda: tuple(map(fingerprint, keys)), stopping, lambda: None),
        starter,
        tmp_path,
        stopping,
        keys,
        chance,
    )
    yield rig
    for process in starter.started:
        process.end()


def test_outcomes_come_in_the_order_of_the_messages(rig: Rig) -> None:
    opened = rig.open(*(sealed(f"number {number}") for number in range(20)), b"junk", sealed("last"))
    assert opened[:20] == [f"number {number}" for number in range(20)]
    assert opened[20].startswith("outer-malformed: ")
    assert opened[21] == "last"
    assert rig.pool.members() == {"workers": 1, "workers_replaced": 0}


def test_a_worker_that_has_ended_is_replaced_and_its_batch_repeated(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    deaths = iter([False, False, True])
    rig.chance[0] = lambda: next(deaths, False)
    assert rig.open(*(sealed(f"number {number}") for number in range(4))) == [f"number {n}" for n in range(4)]
    assert len(rig.starter.started) == 2
    assert rig.pool.members() == {"workers": 1, "workers_replaced": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "A worker process is replaced: it was ended in a test"
    ]


def test_a_message_that_ends_workers_is_refused_and_the_others_are_opened(rig: Rig) -> None:
    opened = rig.open(sealed("before"), b"poison", sealed("after"))
    assert (opened[0], opened[2]) == ("before", "after")
    assert opened[1].startswith(f"{Reason.INTERNAL_ERROR}: the message of 6 bytes with the SHA-256 digest ")
    # Two for the batch, and two for the message alone.
    assert rig.pool.members() == {"workers": 1, "workers_replaced": 4}
    assert rig.open(sealed("later")) == ["later"]


def test_only_poison_is_refused_as_poison(rig: Rig) -> None:
    opened = rig.open(*(b"poison %d" % number for number in range(3)))
    assert len(opened) == 3
    assert all(text.startswith("internal-error: the message of 8 bytes") for text in opened)
    assert len(set(opened)) == 3


def test_any_message_can_be_opened_although_workers_end_now_and_then(rig: Rig) -> None:
    counter = itertools.count(1)
    rig.chance[0] = lambda: next(counter) % 7 == 0
    for first in range(0, 60, 6):
        texts = [f"number {number}" for number in range(first, first + 6)]
        assert rig.open(*map(sealed, texts)) == texts


def test_a_worker_that_does_not_answer_is_replaced(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "BATCH_SECONDS", 0.3)
    opened = rig.open(sealed("before"), b"sleeping pill", sealed("after"))
    assert (opened[0], opened[2]) == ("before", "after")
    assert opened[1].startswith("internal-error: ")
    assert caplog.records[0].getMessage() == "A worker process is replaced: it did not answer in time"


def test_an_idle_worker_that_has_ended_is_replaced(rig: Rig) -> None:
    rig.opener.refresh()
    rig.opener.refresh()
    assert len(rig.starter.started) == 1
    rig.starter.started[0].kill()
    rig.opener.refresh()
    assert len(rig.starter.started) == 2
    assert rig.open(sealed("text")) == ["text"]


def test_if_the_system_has_no_resources_a_worker_is_started_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "START_AGAIN_SECONDS", 0.01)
    rig.starter.errors += [OSError(errno.EAGAIN, "Resource temporarily unavailable")] * 3
    assert rig.open(sealed("text")) == ["text"]
    assert rig.pool.problem is None
    assert [record.getMessage() for record in caplog.records] == [
        "No worker process can be started: Resource temporarily unavailable"
    ]


def test_nothing_is_refused_because_the_receiver_stops(rig: Rig) -> None:
    rig.opener.begin([b"poison"])
    rig.stopping.set()
    assert rig.opener.finish() is None
    rig.opener.begin([sealed("text")])
    assert rig.opener.finish() is None


def test_a_worker_follows_a_rotation(rig: Rig) -> None:
    assert rig.open(sealed("old")) == ["old"]
    payload = sealed("to the old key")
    new = generate_private_key(KeyType.P256)
    key_path(rig.directory, BOB).rename(previous_key_paths(rig.directory, BOB)[0])
    key_path(rig.directory, BOB).write_bytes(encode_private_key(new))
    rig.keys.insert(0, new)
    assert rig.open(payload) == ["to the old key"]
    previous_key_paths(rig.directory, BOB)[0].unlink()
    rig.keys.pop()
    rig.opener.refresh()
    assert rig.open(payload)[0].startswith("decryption-failed: ")
    assert len(rig.starter.started) == 1


def test_a_message_that_may_need_a_key_that_the_worker_cannot_read_is_left_to_the_receiver(rig: Rig) -> None:
    key_path(rig.directory, BOB).unlink()
    assert rig.open(sealed("text")) == ["left"]


def test_a_message_to_an_epoch_key_that_the_worker_does_not_have_is_left_to_the_receiver(rig: Rig) -> None:
    assert rig.open(sealed("text", to=EPOCHS.public), sealed("other")) == ["left", "other"]
    assert len(rig.starter.started) == 1


def test_a_worker_verifies_with_the_keys_that_it_was_sent(rig: Rig) -> None:
    def verified_with(payload: bytes) -> bytes | None:
        rig.opener.begin([payload])
        (outcome,) = rig.opener.finish() or ()
        assert isinstance(outcome, OpenedMessage)
        return outcome.verified_with

    alice = KEYS[ALICE].public.der
    assert verified_with(sealed("text")) is None
    rig.pool.senders.learn(ALICE, (KEYS[DAVE].public.der, alice))
    assert verified_with(sealed("text")) == alice
    assert verified_with(sealed("forged", key=KEYS[BOB])) is None
    assert verified_with(sealed("text", DAVE)) is None
    # A new worker gets them, too.
    rig.starter.started[0].end()
    assert verified_with(sealed("text")) == alice
    rig.pool.senders.learn(ALICE, (KEYS[DAVE].public.der,))
    assert verified_with(sealed("text")) is None


def test_senders_are_known_once_and_up_to_a_limit() -> None:
    known = KnownSenders()
    for number in range(MAX_SENDERS + 1):
        known.learn(IdentityName(f"{number}.example"), (b"key",))
    newest, all_of_them = known.since(0)
    assert [one.sender for one in all_of_them] == [f"{number}.example" for number in range(1, MAX_SENDERS + 1)]
    known.learn(IdentityName("7.example"), (b"key",))
    assert known.since(newest) == (newest, ())
    known.learn(IdentityName("7.example"), (b"other",))
    assert known.since(newest) == (newest + 1, (SenderKeys("7.example", (b"other",)),))
