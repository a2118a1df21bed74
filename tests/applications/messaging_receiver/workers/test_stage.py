"""The Decryption stage with three workers, which run in threads; the other stages are real."""

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idlib.keys import encode_private_key, key_path
from messaging_receiver.opening import Outcome
from messaging_receiver.workers.epoch_ring import EpochRing
from messaging_receiver.workers.key_ring import KeyRing
from messaging_receiver.workers.process import Worker
from tests.applications.messaging_receiver.workers.threads import Mortal, ThreadStarter
from tests.applications.messaging_receiver.world import ALICE, BOB, DAVE, KEYS, World, open_world, sealed

CHOICES = random.Random(1)

Start = Callable[[Callable[[KeyRing], Worker]], World]


class Slow(Worker):
    """A worker that takes a different time for each message."""

    def _open(self, payload: bytes) -> Outcome:
        time.sleep(CHOICES.random() / 500)
        return super()._open(payload)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a receiver whose workers are of a kind."""
    key_path(tmp_path, BOB).write_bytes(encode_private_key(KEYS[BOB]))
    with contextlib.ExitStack() as stack:
        yield lambda kind: stack.enter_context(
            open_world(tmp_path, ThreadStarter(lambda: kind(KeyRing(tmp_path, BOB))))
        )


def test_messages_keep_their_order_whichever_worker_is_faster(start: Start) -> None:
    world = start(lambda ring: Slow(BOB, ring, EpochRing(Path("/nonexistent"), BOB)))
    deliveries = [world.deliver(sealed(f"number {number}", DAVE if number % 3 else ALICE)) for number in range(300)]
    world.wait_for(lambda: len(world.settled) == 300)
    assert set(world.settled) == set(deliveries)
    for sender, remainders in ((ALICE, {0}), (DAVE, {1, 2})):
        assert [line for line in world.printed if line.startswith(str(sender))] == [
            f"{sender} says: number {number}" for number in range(300) if number % 3 in remainders
        ]


def test_nothing_is_lost_or_printed_twice_while_workers_end(start: Start) -> None:
    counter = itertools.count(1)
    world = start(lambda ring: Mortal(BOB, ring, lambda: next(counter) % 40 == 0))
    deliveries = [world.deliver(sealed(f"number {number}")) for number in range(300)]
    world.wait_for(lambda: len(world.settled) == 300)
    assert world.settled == deliveries
    assert world.printed == [f"alice.example says: number {number}" for number in range(300)]


def test_a_message_that_ends_workers_is_refused_and_stops_no_other(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    world = start(lambda ring: Mortal(BOB, ring, lambda: False))
    deliveries = [world.deliver(b"poison" if number == 20 else sealed(f"number {number}")) for number in range(40)]
    world.wait_for(lambda: len(world.settled) == 40)
    assert set(world.settled) == set(deliveries)
    assert world.printed == [f"alice.example says: number {number}" for number in range(40) if number != 20]
    assert "refused=1 refused_internal-error=1" in world.counters
    assert any("refused reason=internal-error the message of 6 bytes" in line for line in caplog.messages)


def test_refused_messages_of_every_stage_are_settled(start: Start) -> None:
    world = start(lambda ring: Worker(BOB, ring, EpochRing(Path("/nonexistent"), BOB)))
    payloads = [sealed("good"), b"\xff{", sealed("forged", key=KEYS[DAVE]), sealed("good"), sealed("better")]
    for payload in (*payloads, payloads[0]):
        world.deliver(payload)
    world.wait_for(lambda: len(world.settled) == 6)
    assert world.printed == [f"alice.example says: {text}" for text in ("good", "good", "better")]
    for reason in ("outer-malformed", "signature-invalid", "replay"):
        assert f"refused_{reason}=1" in world.counters


def test_once_a_sender_is_known_only_workers_verify(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    world = start(lambda ring: Worker(BOB, ring, EpochRing(Path("/nonexistent"), BOB)))
    # Once for each worker, at most: a batch may be under way when the keys become known.
    for number in range(4):
        world.deliver(sealed(f"number {number}"))
        world.wait_for(lambda number=number: len(world.printed) == number + 1)  # type: ignore[misc]
    monkeypatch.setattr("idlib.verdict.signing_key_of", lambda *_: pytest.fail("the receiver verified a message"))
    for number in range(4, 40):
        world.deliver(sealed(f"number {number}"))
    world.wait_for(lambda: len(world.printed) == 40)
    assert "refused=0" in world.counters


def test_a_message_that_a_worker_leaves_is_opened_by_the_receiver(start: Start, tmp_path: Path) -> None:
    key_path(tmp_path, BOB).unlink()
    world = start(lambda ring: Worker(BOB, ring, EpochRing(Path("/nonexistent"), BOB)))
    world.deliver(sealed("text"))
    world.deliver(b"{}")
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed == ["alice.example says: text"]
    assert "refused=1 refused_outer-malformed=1" in world.counters
