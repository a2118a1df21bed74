"""Receivers of one name that share a database and get copies of the same messages; the rest of each is real."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from idlib.envelope import parse
from idlib.errors import Reason
from idlib.settings.store_urls import read_store_url
from idlib.storage import ReplayEntry
from idlib.storage.postgresql.claims import PostgresPrinting
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import Leases
from idlib.storage.postgresql.replay import PostgresReplay
from idlib.storage.postgresql.waiting import PostgresWaiting
from idlib.trust import replay_entry
from messaging_receiver.deferral import LIMITS_OF_A_GROUP
from messaging_receiver.opening import open_message
from testbed.daemons.postgresql import Postgresql
from tests.applications.messaging_receiver.world import ALICE, BOB, KEYS, World, open_world_in, sealed
from tests.integration.group_database import taken_leases


@dataclass
class Stores:
    """What a receiver uses of the database."""

    leases: Leases
    memory: PostgresReplay
    waiting: PostgresWaiting
    printing: PostgresPrinting

    def end(self) -> None:
        """Have the lease expire."""
        self.leases.abandon()


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


@pytest.fixture
def open_stores(postgresql: Postgresql, opened: contextlib.ExitStack) -> Callable[[], Stores]:
    url = read_store_url(postgresql.new_database())

    def open_them() -> Stores:
        database = opened.enter_context(PostgresDatabase(url))
        leases = taken_leases(database)
        memory = opened.enter_context(PostgresReplay(database))
        waiting = PostgresWaiting(database, leases.holder, LIMITS_OF_A_GROUP)
        # The Forwarder does not wait for the other threads.
        of_printing = opened.enter_context(database.another())
        printing = PostgresPrinting(of_printing, leases.holder, lambda: leases.term, lambda: leases.may_take_over)
        return Stores(leases, memory, waiting, printing)

    return open_them


def receiver(stores: Stores, opened: contextlib.ExitStack) -> World:
    return opened.enter_context(open_world_in(stores.memory, stores.waiting, stores.printing))


def said(*texts: str) -> list[str]:
    return [f"{ALICE} says: {text}" for text in texts]


def entry_of(payload: bytes) -> ReplayEntry:
    message = open_message(payload, BOB, [KEYS[BOB]])
    return replay_entry(message.unverified or parse(message.signed), message.digest)


def refused_copies(one: World) -> int:
    return one.context.counters.read().refused.get(Reason.REPLAY, 0)


def test_copies_are_printed_once_refused_otherwise_and_acknowledged_by_all(
    open_stores: Callable[[], Stores], opened: contextlib.ExitStack
) -> None:
    receivers = [receiver(open_stores(), opened) for _ in range(2)]
    texts = [f"text {number}" for number in range(40)]
    for text in texts:
        payload = sealed(text)
        for one in receivers:
            one.deliver(payload)
    for one in receivers:
        one.wait_for(lambda: len(one.settled) == len(texts))  # noqa: B023  # called before the next one
    assert sorted(receivers[0].printed + receivers[1].printed) == sorted(said(*texts))
    # A receiver that is slow to look Alice up may have stored some, which one of them refuses a moment later.
    receivers[0].wait_for(lambda: sum(refused_copies(one) for one in receivers) == len(texts))
    for one in receivers:
        counts = one.context.counters.read()
        assert sum(counts.printed.values()) == len(one.printed)
        assert not set(counts.refused) - {Reason.REPLAY}


def test_a_message_that_another_receiver_has_claimed_waits_until_that_receiver_has_ended(
    open_stores: Callable[[], Stores], opened: contextlib.ExitStack
) -> None:
    other = open_stores()
    one = receiver(open_stores(), opened)
    payload = sealed("claimed by the other")
    other.printing.claim([entry_of(payload)])
    claimed, free = one.deliver(payload), one.deliver(sealed("free"))
    one.wait_for(lambda: one.settled == [free])
    assert one.printed == said("free")
    other.end()
    one.wait_for(lambda: one.settled == [free, claimed])
    assert one.printed == said("free", "claimed by the other")


def test_nothing_is_printed_without_a_lease_and_all_of_it_once_there_is_one(
    open_stores: Callable[[], Stores], opened: contextlib.ExitStack
) -> None:
    stores = open_stores()
    one = receiver(stores, opened)
    stores.end()
    for number in range(3):
        one.deliver(sealed(str(number)))
    one.wait_for(lambda: one.context.counters.read().received == 3)
    assert one.printed == []
    stores.leases.take()
    one.wait_for(lambda: len(one.settled) == 3)
    assert sorted(one.printed) == said("0", "1", "2")


def test_a_copy_of_a_message_that_waits_for_another_receiver_is_acknowledged_with_it(
    open_stores: Callable[[], Stores], opened: contextlib.ExitStack
) -> None:
    """If the connection breaks, only the broker's copy is left if this receiver dies, too."""
    other = open_stores()
    one = receiver(open_stores(), opened)
    payload = sealed("claimed by the other")
    other.printing.claim([entry_of(payload)])
    lost, again, free = one.deliver(payload), one.deliver(payload), one.deliver(sealed("free"))
    one.wait_for(lambda: free in one.settled)
    assert one.settled == [free]
    assert "refused=1 refused_replay=1" in one.counters
    other.end()
    one.wait_for(lambda: one.settled == [free, lost, again])
    assert one.printed == said("free", "claimed by the other")
