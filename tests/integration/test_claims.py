"""Of several receivers that get copies of a message, one prints it; if it dies, another one does."""

import contextlib
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.settings.store_urls import read_store_url
from idlib.storage import Claim, Printed, ReplayEntry, WaitingMessage
from idlib.storage.postgresql.claims import PostgresPrinting
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import LEASE_SECONDS, RENEWAL_SECONDS, Leases
from idlib.storage.postgresql.replay import PostgresReplay
from idlib.storage.postgresql.waiting import PostgresWaiting
from messaging_receiver.deferral import LIMITS_OF_A_GROUP
from testbed.daemons.postgresql import Postgresql
from tests.idlib.storage.replaying import ALICE, BOB, DAY, NEW, NOW, PRINTED, entry, known
from tests.idlib.storage.threads import at_once
from tests.integration.group_database import taken_leases, wait_for_a_waiting_statement

CLAIMED, HELD, WAS_PRINTED = Claim.CLAIMED, Claim.HELD, Claim.PRINTED


@dataclass
class Receiver:
    """What a receiver of a group uses to print messages."""

    database: PostgresDatabase
    leases: Leases
    replay: PostgresReplay
    waiting: PostgresWaiting
    printing: PostgresPrinting

    def finish(self, *entries: ReplayEntry, removed: Sequence[int] = ()) -> None:
        self.printing.finish([Printed(one, "example", b"key") for one in entries], removed, NOW)

    def is_alone_with(self, *entries: ReplayEntry) -> bool:
        return all(claim is CLAIMED for claim in self.printing.claim(entries))


@dataclass
class Group:
    """Receivers that share a database."""

    url: str
    opened: contextlib.ExitStack
    time: list[float] = field(default_factory=lambda: [0.0])

    def start(self) -> Receiver:
        database = self.opened.enter_context(PostgresDatabase(read_store_url(self.url)))
        leases = taken_leases(database, lambda: self.time[0])
        replay = self.opened.enter_context(PostgresReplay(database, pause_seconds=0.0))
        waiting = PostgresWaiting(database, leases.holder, LIMITS_OF_A_GROUP)
        printing = PostgresPrinting(database, leases.holder, lambda: leases.term, lambda: leases.may_take_over)
        return Receiver(database, leases, replay, waiting, printing)

    def kill(self, receiver: Receiver) -> None:
        """Have the lease of a receiver expire, as if it had been killed some time ago."""
        with receiver.database.transaction() as statements:
            statements.execute(
                "UPDATE receiver SET expires_at = clock_timestamp() WHERE holder = ?", (receiver.leases.holder,)
            )

    def number_of_claims(self, receiver: Receiver) -> int:
        with receiver.database.separately() as statements:
            return int(statements.execute("SELECT count(*) FROM claim").fetchall()[0][0])


@pytest.fixture(scope="module")
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
def group(url: str) -> Iterator[Group]:
    with contextlib.ExitStack() as opened:
        group = Group(url, opened)
        with group.start().database.transaction() as statements:
            statements.execute("TRUNCATE receiver, claim, fact, sender, bound, unbound, waiting, waiting_sender")
        yield group


def test_a_message_belongs_to_the_receiver_that_claimed_it_first_until_it_is_printed(group: Group) -> None:
    one, other = group.start(), group.start()
    first, second = entry("first"), entry("second", None)
    assert one.printing.claim([first, second]) == (CLAIMED, CLAIMED)
    assert other.printing.claim([entry("third"), second, first]) == (CLAIMED, HELD, HELD)
    assert one.printing.may_print(first)
    assert not other.printing.may_print(first)
    one.finish(first)
    assert other.printing.claim([second, first]) == (HELD, WAS_PRINTED)
    assert other.replay.verdict(first) is PRINTED
    assert other.replay.verdict(second) is NEW
    one.finish(second)
    other.finish(entry("third"))
    assert group.number_of_claims(one) == 0


def test_claims_of_a_receiver_that_has_died_are_taken_over(group: Group) -> None:
    one, other = group.start(), group.start()
    assert one.is_alone_with(entry("one"), entry("two"))
    assert other.printing.claim([entry("one")]) == (HELD,)
    group.kill(one)
    assert other.printing.claim([entry("one")]) == (CLAIMED,)
    # A third one may not take it over from the second one.
    assert group.start().printing.claim([entry("one")]) == (HELD,)


def test_after_an_outage_of_the_database_a_receiver_may_record_what_it_has_printed_before_others_take_its_claims(
    group: Group,
) -> None:
    one, other = group.start(), group.start()
    assert one.is_alone_with(entry("printed"), entry("left"))
    group.time[0] += LEASE_SECONDS - RENEWAL_SECONDS
    group.kill(one)
    assert other.printing.claim([entry("printed"), entry("left")]) == (HELD, HELD)
    assert other.leases.renew()
    assert other.printing.claim([entry("printed"), entry("left")]) == (HELD, HELD)
    one.finish(entry("printed"))
    for _ in range(2):
        group.time[0] += RENEWAL_SECONDS
        assert other.leases.renew()
    assert other.printing.claim([entry("printed"), entry("left")]) == (WAS_PRINTED, CLAIMED)


def test_a_claim_is_not_taken_over_if_the_lease_was_renewed_while_the_statement_waited(group: Group) -> None:
    one, other, third = group.start(), group.start(), group.start()
    assert one.is_alone_with(entry("one"))
    claims: list[tuple[Claim, ...]] = []
    thread = threading.Thread(target=lambda: claims.append(other.printing.claim([entry("one")])))
    with third.database.transaction() as statements:
        statements.execute("SELECT 1 FROM claim FOR UPDATE")
        with one.database.transaction() as own:
            expires = "clock_timestamp() + interval '2 s'"
            own.execute(f"UPDATE receiver SET expires_at = {expires} WHERE holder = ?", (one.leases.holder,))
        thread.start()
        wait_for_a_waiting_statement(statements)
        assert one.leases.renew()
        time.sleep(2.0)
    thread.join()
    assert claims == [(HELD,)]


def test_a_claim_is_not_taken_over_from_a_receiver_that_started_while_the_statement_waited(group: Group) -> None:
    dead, waiting = group.start(), group.start()
    assert dead.is_alone_with(entry("one"))
    group.kill(dead)
    claims: list[tuple[Claim, ...]] = []
    thread = threading.Thread(target=lambda: claims.append(waiting.printing.claim([entry("one")])))
    with dead.database.transaction() as statements:
        statements.execute("SELECT 1 FROM claim FOR UPDATE")
        thread.start()
        wait_for_a_waiting_statement(statements)
        new = group.start()
        # As if it had waited as well, and was the first to get the lock.
        statements.execute("UPDATE claim SET holder = ?", (new.leases.holder,))
    thread.join()
    assert claims == [(HELD,)]


def test_claims_of_dead_receivers_are_forgotten_when_a_receiver_starts(group: Group) -> None:
    one, other = group.start(), group.start()
    assert one.is_alone_with(entry("one"), entry("two"))
    assert other.is_alone_with(entry("three"))
    group.kill(one)
    group.start()
    assert group.number_of_claims(other) == 1


def test_a_message_that_may_have_been_forgotten_is_not_claimed(group: Group) -> None:
    one = group.start()
    one.replay.raise_floor(NOW)
    assert one.printing.claim([entry("old"), entry("new", NOW + 1)]) == (WAS_PRINTED, CLAIMED)
    assert group.number_of_claims(one) == 1


def test_a_message_that_was_printed_after_it_was_held_is_known_as_printed(group: Group) -> None:
    one, other = group.start(), group.start()
    assert one.is_alone_with(entry("one"))
    assert other.printing.claim([entry("one")]) == (HELD,)
    one.finish(entry("one"))
    assert other.printing.claim([entry("one")]) == (WAS_PRINTED,)


def test_finished_messages_no_longer_wait_in_the_same_transaction(group: Group) -> None:
    one = group.start()
    number, other = one.waiting.new_numbers(2)
    one.waiting.change([_waiting(number), _waiting(other)], ())
    assert one.is_alone_with(entry("one"))
    one.finish(entry("one"), removed=[number])
    assert [waiting.number for waiting in one.waiting.index()] == [other]
    one.finish(removed=[other])
    assert not list(one.waiting.index())


def test_a_write_that_is_repeated_changes_nothing_more(group: Group) -> None:
    one = group.start()
    for _ in range(2):
        assert one.is_alone_with(entry("one"), entry("two"))
    for _ in range(2):
        one.finish(entry("one"), entry("two"))
    assert known(one.replay, ALICE).printed == 2


def test_without_a_valid_lease_nothing_is_claimed_or_printed(group: Group) -> None:
    one = group.start()
    assert one.is_alone_with(entry("one"))
    group.time[0] += DAY
    assert not one.printing.may_print(entry("one"))
    assert one.printing.claim([entry("one"), entry("two")]) == (HELD, HELD)


def test_what_was_claimed_in_an_earlier_lease_is_claimed_again_before_it_is_printed(group: Group) -> None:
    one = group.start()
    other = group.start()
    assert one.is_alone_with(entry("one"), entry("two"))
    group.kill(one)
    assert other.is_alone_with(entry("one"))
    assert not one.leases.renew()
    one.leases.take()
    assert not one.printing.may_print(entry("one"))
    assert one.printing.claim([entry("one"), entry("two")]) == (HELD, CLAIMED)
    assert one.printing.may_print(entry("two"))


def test_a_message_printed_by_a_receiver_that_was_thought_dead_is_remembered(group: Group) -> None:
    one, other = group.start(), group.start()
    assert one.is_alone_with(entry("one"))
    group.kill(one)
    assert other.is_alone_with(entry("one"))
    one.finish(entry("one"))
    assert one.replay.verdict(entry("one")) is PRINTED
    other.finish(entry("one"))
    assert known(other.replay, ALICE).printed == 1


def test_receivers_that_get_copies_of_the_same_messages_print_each_once(group: Group) -> None:
    """Each receiver gets all messages, in an order of its own; the claims of groups overlap in every way."""
    messages = [entry(number, NOW if number % 3 else None, sender) for number in range(60) for sender in (ALICE, BOB)]
    receivers = [group.start() for _ in range(4)]
    printed: Counter[ReplayEntry] = Counter()
    lock = threading.Lock()

    def work(number: int) -> None:
        receiver, chance = receivers[number], random.Random(number)  # not for secrets
        left = messages.copy()
        chance.shuffle(left)
        while left:
            asked, left = left[:16], left[16:]
            claims = receiver.printing.claim(asked)
            mine = [one for one, claim in zip(asked, claims, strict=True) if claim is CLAIMED]
            with lock:
                printed.update(mine)
            receiver.finish(*mine)
            left += [one for one, claim in zip(asked, claims, strict=True) if claim is HELD]

    at_once(work, range(len(receivers)))
    assert printed == Counter(messages)
    assert group.number_of_claims(receivers[0]) == 0


def test_nothing_changes_while_the_database_is_away(own_postgresql: Postgresql) -> None:
    with contextlib.ExitStack() as opened:
        one = Group(own_postgresql.new_database(), opened).start()
        assert one.is_alone_with(entry("one"))
        with own_postgresql.away():
            with pytest.raises(StoreError):
                one.printing.claim([entry("two")])
            with pytest.raises(StoreError):
                one.finish(entry("one"))
        assert one.is_alone_with(entry("two"))
        one.finish(entry("one"), entry("two"))
        assert one.printing.claim([entry("one"), entry("two")]) == (WAS_PRINTED, WAS_PRINTED)


_messages = st.lists(st.integers(0, 7), min_size=1, max_size=5, unique=True)
_actions = st.tuples(
    st.integers(0, 1),
    st.one_of(
        st.tuples(st.just("claim"), _messages),
        st.tuples(st.sampled_from(["print", "finish", "die"]), st.just([])),
    ),
)


@given(actions=st.lists(_actions, max_size=30))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_message_is_printed_again_only_if_its_receiver_died_before_it_was_recorded_and_none_is_lost(
    actions: list[tuple[int, tuple[str, list[int]]]], group: Group
) -> None:
    with contextlib.ExitStack() as opened:
        _run(actions, Group(group.url, opened))


def _run(actions: list[tuple[int, tuple[str, list[int]]]], group: Group) -> None:
    # Other messages in each run, because all runs have the same database.
    run = secrets.token_hex(8)
    messages = [entry((run, number), NOW if number % 2 else None) for number in range(8)]
    receivers = [group.start(), group.start()]
    claimed: list[list[ReplayEntry]] = [[], []]
    unrecorded: list[list[ReplayEntry]] = [[], []]
    times_printed: Counter[ReplayEntry] = Counter()
    abandoned: Counter[ReplayEntry] = Counter()

    def act(who: int, what: str, chosen: Sequence[ReplayEntry]) -> None:
        receiver = receivers[who]
        if what == "claim":
            # As the Forwarder: no message that the receiver has already.
            asked = [one for one in chosen if one not in claimed[who] and one not in unrecorded[who]]
            claims = receiver.printing.claim(asked)
            claimed[who] += [one for one, claim in zip(asked, claims, strict=True) if claim is CLAIMED]
        elif what == "print":
            assert all(receiver.printing.may_print(one) for one in claimed[who])
            times_printed.update(claimed[who])
            unrecorded[who] += claimed[who]
            claimed[who] = []
        elif what == "finish":
            receiver.finish(*unrecorded[who])
            unrecorded[who] = []
        else:
            group.kill(receiver)
            abandoned.update(unrecorded[who])
            claimed[who], unrecorded[who] = [], []
            receivers[who] = group.start()

    for who, (what, numbers) in actions:
        act(who, what, [messages[number] for number in numbers])
        assert all(times_printed[one] <= 1 + abandoned[one] for one in messages)
    # The broker delivers what was not acknowledged again, to any of them.
    for who in (0, 1):
        for what in ("claim", "print", "finish"):
            act(who, what, messages)
    assert all(1 <= times_printed[one] <= 1 + abandoned[one] for one in messages)
    assert set(receivers[0].printing.claim(messages)) == {WAS_PRINTED}


def _waiting(number: int) -> WaitingMessage:
    return WaitingMessage(
        number=number,
        sender=ALICE,
        digest=number.to_bytes(32),
        identifier=number.to_bytes(16),
        issued_at=NOW,
        received_at=NOW,
        deferred_at=0.0,
        is_asked_again=False,
        is_reserved=False,
        signed="a.b.c",
    )
