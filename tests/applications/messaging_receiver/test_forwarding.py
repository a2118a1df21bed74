"""The Forwarder records and acknowledges a message only after its sink has said what became of it."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from idlib.errors import OutputError, StoreError
from idlib.storage import Claim, Printed, Remembered, ReplayEntry
from idlib.storage.printing import SolePrinting
from idlib.transport import ReceivedPacket
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.ending import Ending
from messaging_receiver.forwarding import message_printer
from messaging_receiver.queue_items import AuthenticatedMessage, Origin, ReceivedMessage, SettledMessage, size_of
from messaging_receiver.receipt_requests import ReceiptRequest
from messaging_receiver.sinks import Fate
from messaging_receiver.stage import Stage
from tests.applications.messaging_receiver.sinks.delivering import message
from tests.applications.messaging_receiver.world import ALICE, KEYS, World


class Deciding:
    """A sink that does with each message what its text says."""

    problem = None

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.delivered: list[str | None] = []
        self._before = before

    def check(self) -> None:
        """Do nothing."""

    def deliver(self, received: ReceivedMessage) -> Fate:
        self._before()
        self.delivered.append(received.text)
        if received.text == "fail":
            raise OutputError("it is full")
        return Fate[received.text or ""]


class Forwarding:
    """A Forwarder with its queue; the rest of the receiver is idle."""

    def __init__(
        self, world: World, *texts: str, count: int | None = None, printing: SolePrinting | None = None
    ) -> None:
        self.context = world.context if printing is None else replace(world.context, printing=printing)
        self.ending = Ending(world.context.stopping, count)
        self.settled: list[ReceivedPacket] = []
        self.confirmed: list[str] = []
        self.sink = Deciding(lambda: self.recorded_before.append(self.recorded()))
        self.recorded_before: list[int] = []
        self.packets = [ReceivedPacket() for _ in texts]
        self.queue: BoundedQueue[Any] = BoundedQueue(1024, 2**23, size_of)
        for number, (text, packet) in enumerate(zip(texts, self.packets, strict=True)):
            self.queue.put(
                SettledMessage(Origin(packet))
                if text == "refused"
                else AuthenticatedMessage(
                    message(text), printed(number), Origin(packet), ReceiptRequest(ALICE, str(number))
                )
            )
        stage: Stage[Any] = Stage(self.context, self.queue, self.queue)
        self._stage = stage

    def run(self) -> None:
        """Run until it ends by itself."""
        message_printer(self._stage, self.sink, self.settled.extend, self._confirm, self.ending)

    def run_until(self, condition: Callable[[], bool]) -> None:
        thread = threading.Thread(target=self.run)
        thread.start()
        while not condition():
            thread.join(0.01)
            assert thread.is_alive()
        self.context.stopping.set()
        self.queue.close()
        thread.join(20)
        assert not thread.is_alive()

    def recorded(self) -> int:
        memory = self.context.memory
        return sum(memory.verdict(printed(number).entry) is Remembered.PRINTED for number in range(len(self.packets)))

    def _confirm(self, request: ReceiptRequest) -> None:
        self.confirmed.append(request.identifier)


class Shared(SolePrinting):
    """The claims of a receiver that is not alone.

    Args:
        world: The receiver.
        answers: The results for each message: first, second and so on; after them it is claimed.
    """

    def __init__(self, world: World, *answers: Sequence[Claim]) -> None:
        super().__init__(world.context.memory, world.context.waiting_store)
        self._answers = {printed(number).entry: list(claims) for number, claims in enumerate(answers)}
        self.asked: Counter[ReplayEntry] = Counter()
        # The claims that are lost before the message is printed, and how often it has to be claimed.
        self.lost_until: dict[ReplayEntry, int] = {}
        self.is_away = False

    def claim(self, entries: Sequence[ReplayEntry]) -> tuple[Claim, ...]:
        if self.is_away:
            raise StoreError("it is away")
        self.asked.update(entries)
        return tuple(self._answers[entry].pop(0) if self._answers.get(entry) else Claim.CLAIMED for entry in entries)

    def may_print(self, entry: ReplayEntry) -> bool:
        return self.asked[entry] >= self.lost_until.get(entry, 0)


def printed(number: int) -> Printed:
    entry = ReplayEntry(str(ALICE), number.to_bytes(16), 1_800_000_000)
    return Printed(entry, "example", KEYS[ALICE].public.der, is_listed=True)


def test_a_message_that_is_set_aside_is_recorded_and_acknowledged_but_gets_no_receipt(world: World) -> None:
    forwarding = Forwarding(world, "DELIVERED", "SET_ASIDE", "refused", "DELIVERED")
    forwarding.run_until(lambda: len(forwarding.settled) == 4)
    assert forwarding.settled == forwarding.packets
    assert forwarding.confirmed == ["0", "3"]
    assert forwarding.recorded() == 3
    assert "printed=2 refused=0" in world.counters
    assert world.counters.endswith(" set_aside=1")


def test_a_message_that_is_kept_and_those_after_it_are_not_acknowledged(world: World) -> None:
    forwarding = Forwarding(world, "DELIVERED", "KEPT", "DELIVERED")
    world.context.stopping.set()
    forwarding.run()
    assert forwarding.settled == forwarding.packets[:1]
    assert forwarding.sink.delivered == ["DELIVERED", "KEPT"]
    assert (forwarding.recorded(), forwarding.confirmed) == (1, ["0"])


def test_what_was_delivered_before_a_sink_fails_is_recorded(world: World) -> None:
    forwarding = Forwarding(world, "DELIVERED", "DELIVERED", "fail", "DELIVERED")
    with pytest.raises(OutputError):
        forwarding.run()
    assert forwarding.settled == forwarding.packets[:2]
    assert forwarding.recorded() == 2


@pytest.mark.parametrize("count", [1, 3, 32, 33, 70])
def test_after_enough_messages_no_other_is_delivered(count: int, world: World) -> None:
    forwarding = Forwarding(world, *["DELIVERED"] * 80, count=count)
    forwarding.run()
    assert len(forwarding.sink.delivered) == count
    assert forwarding.settled == forwarding.packets[:count]
    assert forwarding.recorded() == count
    assert world.context.stopping.is_set()


def test_messages_that_are_refused_or_set_aside_do_not_count(world: World) -> None:
    forwarding = Forwarding(world, "refused", "SET_ASIDE", "DELIVERED", "refused", "DELIVERED", "DELIVERED", count=2)
    forwarding.run()
    assert forwarding.sink.delivered == ["SET_ASIDE", "DELIVERED", "DELIVERED"]
    assert forwarding.settled == forwarding.packets[:5]


def test_no_message_is_recorded_before_it_is_delivered(world: World) -> None:
    forwarding = Forwarding(world, *["DELIVERED"] * 3, count=3)
    forwarding.run()
    assert all(recorded <= number for number, recorded in enumerate(forwarding.recorded_before))


def test_a_message_that_another_receiver_has_claimed_is_asked_for_again_and_delays_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.holding.HELD_AGAIN_SECONDS", 0.01)
    printing = Shared(world, (), (Claim.HELD, Claim.HELD), (), (Claim.HELD, Claim.PRINTED))
    forwarding = Forwarding(world, "DELIVERED", "SET_ASIDE", "DELIVERED", "DELIVERED", printing=printing)
    forwarding.run_until(lambda: len(forwarding.settled) == 4)
    assert forwarding.sink.delivered == ["DELIVERED", "DELIVERED", "SET_ASIDE"]
    assert set(forwarding.settled[:2]) == {forwarding.packets[0], forwarding.packets[2]}
    assert forwarding.recorded() == 3
    assert "printed=2 refused=1 refused_replay=1" in world.counters


def test_a_message_that_stays_claimed_by_another_receiver_is_neither_printed_nor_acknowledged(world: World) -> None:
    forwarding = Forwarding(world, "DELIVERED", "DELIVERED", printing=Shared(world, [Claim.HELD] * 1000))
    forwarding.run_until(lambda: len(forwarding.settled) == 1)
    assert forwarding.settled == forwarding.packets[1:]
    assert (forwarding.recorded(), len(forwarding.sink.delivered)) == (1, 1)


def test_only_so_many_messages_are_held_and_the_others_stay_in_the_queue_until_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.holding.HELD_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("messaging_receiver.holding.MAX_HELD", 3)
    printing = Shared(world, *([Claim.HELD] * 20 for _ in range(10)))
    waiting: list[int] = []
    forwarding = Forwarding(world, *["DELIVERED"] * 10, printing=printing)
    claim = printing.claim

    def counting(entries: Sequence[ReplayEntry]) -> tuple[Claim, ...]:
        waiting.append(forwarding.queue.qsize() + len(entries))
        return claim(entries)

    monkeypatch.setattr(printing, "claim", counting)
    forwarding.run_until(lambda: len(forwarding.settled) == 10)
    assert len(forwarding.sink.delivered) == 10
    assert waiting[:20] == [10] * 20


def test_a_message_whose_claim_has_ended_is_claimed_again_before_it_is_printed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.holding.HELD_AGAIN_SECONDS", 0.01)
    printing = Shared(world)
    printing.lost_until[printed(1).entry] = 2
    forwarding = Forwarding(world, "DELIVERED", "SET_ASIDE", "DELIVERED", printing=printing)
    forwarding.run_until(lambda: len(forwarding.settled) == 3)
    assert forwarding.sink.delivered == ["DELIVERED", "DELIVERED", "SET_ASIDE"]
    assert [printing.asked[printed(number).entry] for number in range(3)] == [1, 2, 1]


def test_nothing_is_printed_while_nothing_can_be_claimed(world: World) -> None:
    printing = Shared(world)
    printing.is_away = True
    forwarding = Forwarding(world, "DELIVERED", printing=printing)
    world.context.stopping.set()
    forwarding.run()
    assert (forwarding.sink.delivered, forwarding.settled) == ([], [])


def test_a_message_that_was_printed_elsewhere_is_no_longer_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    printing = Shared(world, [Claim.PRINTED])
    removed: list[int] = []
    monkeypatch.setattr(printing, "finish", lambda _printed, numbers, _now: removed.extend(numbers))
    forwarding = Forwarding(world, printing=printing)
    forwarding.queue.put(AuthenticatedMessage(message("DELIVERED"), printed(0), Origin(None, 7)))
    forwarding.run_until(lambda: removed == [7])
    assert forwarding.sink.delivered == []


def test_a_copy_of_a_message_that_may_not_be_printed_yet_stays_stored_until_that_one_is_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.holding.HELD_AGAIN_SECONDS", 0.01)
    printing = Shared(world, (Claim.HELD, Claim.HELD))
    # Claimed, and lost again before it is printed.
    printing.lost_until[printed(0).entry] = 4
    finished: list[tuple[int, list[int]]] = []
    monkeypatch.setattr(printing, "finish", lambda done, numbers, _now: finished.append((len(done), list(numbers))))
    forwarding = Forwarding(world, "DELIVERED", printing=printing)
    forwarding.queue.put(SettledMessage(Origin(None, 7), copy_of=printed(0).entry))
    forwarding.queue.put(SettledMessage(Origin(None, 8), copy_of=printed(1).entry))
    forwarding.run_until(lambda: len(forwarding.settled) == 1)
    assert finished == [(0, [8]), (1, [7])]


def test_copies_of_held_messages_count_among_those_that_are_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("messaging_receiver.holding.HELD_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("messaging_receiver.holding.MAX_HELD", 3)
    printing = Shared(world, [Claim.HELD] * 10)
    forwarding = Forwarding(world, "DELIVERED", printing=printing)
    packets = [ReceivedPacket() for _ in range(10)]
    for packet in packets:
        forwarding.queue.put(SettledMessage(Origin(packet), copy_of=printed(0).entry))
    waiting: list[int] = []
    claim = printing.claim

    def counting(entries: Sequence[ReplayEntry]) -> tuple[Claim, ...]:
        waiting.append(forwarding.queue.qsize())
        return claim(entries)

    monkeypatch.setattr(printing, "claim", counting)
    forwarding.run_until(lambda: len(forwarding.settled) == 11)
    assert forwarding.settled == [*forwarding.packets, *packets]
    assert min(waiting[:11]) == 8
