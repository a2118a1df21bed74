"""Deferred messages in the database that no live receiver has in its index: they are limited, and they expire."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import pytest

from idlib.storage import Admission, Dropped, WaitingLimits, WaitingMessage
from idlib.storage.postgresql import unadopted
from idlib.storage.postgresql.connection import Statements
from idlib.storage.postgresql.leases import LEASE_SECONDS
from idlib.storage.postgresql.waiting import ABANDONED_SECONDS
from testbed.daemons.postgresql import Postgresql
from tests.idlib.storage.threads import at_once
from tests.idlib.storage.waiting import ALICE, BOB, message, numbers
from tests.integration.shared_waiting import Receiver, everyone, group

OURS, TO_BE_ADOPTED, COPY, NO_ROOM = Admission.OURS, Admission.TO_BE_ADOPTED, Admission.COPY, Admission.NO_ROOM
# Room for 4 messages without a text.
LIMITS: Final = WaitingLimits(
    reserved_bytes=400, open_bytes=400, open_messages=10, overhead_bytes=100, reserved_seconds=1000, open_seconds=100
)
Start = Callable[[], Receiver]


@pytest.fixture(scope="module")
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    with group(url, LIMITS) as start:
        yield start


def _empty(number: int, sender: str = ALICE, *, is_reserved: bool = False) -> WaitingMessage:
    return replace(message(number, "", sender=sender), is_reserved=is_reserved)


def _stored(receiver: Receiver) -> list[int]:
    with receiver.database.transaction() as statements:
        return [number for (number,) in statements.execute("SELECT number FROM waiting ORDER BY number")]


def _ended(receiver: Receiver, *others: Receiver) -> None:
    """End a receiver, and let so much time pass that the others may drop what they do not take over."""
    receiver.leases.abandon()
    for other in others:
        assert other.waiting.drop_abandoned(1e9) == ()
        other.passed += ABANDONED_SECONDS
        # They have looked for messages all the time.
        other.waiting.adopt(lambda _: ())


def test_strangers_messages_for_a_receiver_that_adopts_nothing_are_limited(start: Start) -> None:
    stuck, other = start(), start()
    assert stuck.waiting.change([_empty(1)], ()) == (OURS,)
    for number in range(2, 6):
        assert other.waiting.change([_empty(number)], ()) == (TO_BE_ADOPTED,)
    assert other.waiting.change([_empty(6), _empty(7, BOB)], ()) == (NO_ROOM, OURS)
    assert other.waiting.change([_empty(8, is_reserved=True)], ()) == (TO_BE_ADOPTED,)
    assert _stored(other) == [1, 2, 3, 4, 5, 7, 8]
    assert stuck.adopt() == [2, 3, 4, 5, 8]
    assert other.waiting.change([_empty(9)], ()) == (TO_BE_ADOPTED,)


def test_trusted_names_messages_for_a_receiver_that_adopts_nothing_are_limited(start: Start) -> None:
    stuck, other = start(), start()
    stuck.waiting.change([_empty(1)], ())
    added = [_empty(number, is_reserved=True) for number in range(2, 8)]
    assert other.waiting.change(added, ()) == (*[TO_BE_ADOPTED] * 4, NO_ROOM, NO_ROOM)
    assert other.waiting.change([_empty(8)], ()) == (TO_BE_ADOPTED,)


def test_no_message_overtakes_one_of_its_sender_for_which_there_is_no_room(start: Start) -> None:
    stuck, other = start(), start()
    stuck.waiting.change([_empty(1)], ())
    large = replace(message(3, "x" * 301))
    assert other.waiting.change([_empty(2), large, _empty(4)], ()) == (TO_BE_ADOPTED, NO_ROOM, NO_ROOM)


def test_what_others_have_stored_counts_for_every_receiver(start: Start) -> None:
    stuck, one, other = start(), start(), start()
    stuck.waiting.change([_empty(1)], ())
    assert one.waiting.change([_empty(2), _empty(3)], ()) == (TO_BE_ADOPTED, TO_BE_ADOPTED)
    assert other.waiting.change([_empty(4), _empty(5), _empty(6)], ()) == (TO_BE_ADOPTED, TO_BE_ADOPTED, NO_ROOM)


def test_a_change_that_is_repeated_is_not_limited_by_itself(start: Start) -> None:
    stuck, other = start(), start()
    stuck.waiting.change([_empty(1)], ())
    for _ in range(2):
        assert other.waiting.change([_empty(number) for number in range(2, 6)], ()) == (TO_BE_ADOPTED,) * 4


def test_messages_of_an_ended_receiver_expire_although_no_receiver_has_room(start: Start) -> None:
    gone, other = start(), start()
    added = [_empty(1), _empty(2, is_reserved=True), replace(_empty(3, BOB), deferred_at=1000.0)]
    gone.waiting.change(added, ())
    other.waiting.change([_empty(4, "carol.example")], ())
    _ended(gone, other)
    assert other.waiting.drop_abandoned(100.5) == ()
    assert other.waiting.drop_abandoned(101.5) == (Dropped(ALICE, 101.0, is_overdue=True),)
    assert _stored(other) == [2, 3, 4]
    assert other.waiting.drop_abandoned(1001.5) == (Dropped(ALICE, 1001.0, is_overdue=True),)
    assert other.waiting.drop_abandoned(2000.0) == (Dropped(BOB, 1000.0, is_overdue=True),)
    assert _stored(other) == numbers(other.waiting) == [4]


def test_of_the_messages_that_no_receiver_takes_over_strangers_newest_are_dropped(start: Start) -> None:
    gone, next_one, other = start(), start(), start()
    gone.waiting.change([_empty(number, f"{number}.example") for number in (1, 2, 3)], ())
    gone.waiting.change([_empty(number, "known.example", is_reserved=True) for number in range(4, 12)], ())
    next_one.waiting.change([_empty(number, f"{number}.example") for number in (12, 13, 14)], ())
    gone.leases.abandon()
    _ended(next_one, other)
    dropped = other.waiting.drop_abandoned(1.0)
    assert sorted(one.sender for one in dropped) == ["13.example", "14.example"]
    assert not any(one.is_overdue for one in dropped)
    assert _stored(other) == list(range(1, 13))
    assert other.waiting.drop_abandoned(1.0) == ()


def test_strangers_messages_that_no_receiver_takes_over_are_limited_in_number(url: str) -> None:
    with group(url, replace(LIMITS, open_bytes=10_000)) as start:
        gone, other = start(), start()
        gone.waiting.change([_empty(number) for number in range(1, 14)], ())
        _ended(gone, other)
        assert len(other.waiting.drop_abandoned(1.0)) == 3
        assert _stored(other) == list(range(1, 11))


def test_messages_that_an_ended_receiver_has_not_adopted_expire_too(start: Start) -> None:
    gone, other = start(), start()
    gone.waiting.change([_empty(1)], ())
    assert other.waiting.change([_empty(2)], ()) == (TO_BE_ADOPTED,)
    _ended(gone, other)
    assert [one.waited for one in other.waiting.drop_abandoned(200.5)] == [200.0, 200.0]


def test_a_receiver_with_room_has_time_to_take_messages_over_first(start: Start) -> None:
    gone, full, free = start(), start(), start()
    gone.waiting.change([_empty(number) for number in range(1, 8)], ())
    gone.leases.abandon()
    assert full.waiting.drop_abandoned(1e9) == ()
    full.passed += ABANDONED_SECONDS / 2
    full.waiting.adopt(lambda _: ())
    assert full.waiting.drop_abandoned(1e9) == ()
    assert free.adopt() == list(range(1, 8))
    full.passed += ABANDONED_SECONDS
    full.waiting.adopt(lambda _: ())
    assert full.waiting.drop_abandoned(1e9) == ()


def test_nothing_is_dropped_after_an_outage_of_the_database_before_receivers_could_renew_their_leases(
    start: Start, postgresql: Postgresql, url: str
) -> None:
    one, other = start(), start()
    one.waiting.change([_empty(1)], ())
    other.waiting.adopt(everyone)
    other.passed += max(LEASE_SECONDS, ABANDONED_SECONDS) + 1
    postgresql.run("UPDATE receiver SET expires_at = now()", url)
    assert other.waiting.drop_abandoned(1e9) == ()
    other.waiting.adopt(everyone)
    assert other.waiting.drop_abandoned(1e9) == ()
    one.leases.renew()
    other.passed += ABANDONED_SECONDS
    other.waiting.adopt(everyone)
    assert other.waiting.drop_abandoned(1e9) == ()
    assert numbers(one.waiting) == [1]


def test_a_receiver_that_takes_messages_over_at_the_last_moment_keeps_them(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, free, other = start(), start(), start()
    gone.waiting.change([_empty(number) for number in range(1, 8)], ())
    _ended(gone, other)
    execute = Statements.execute

    def after_the_other(self: Statements, statement: str, values: Sequence[object] = ()) -> object:
        if "DELETE" in statement:
            monkeypatch.setattr(Statements, "execute", execute)
            assert free.waiting.change([_empty(8)], ()) == (TO_BE_ADOPTED,)
        return execute(self, statement, values)

    monkeypatch.setattr(Statements, "execute", after_the_other)
    assert other.waiting.drop_abandoned(1.0) == ()
    assert free.adopt() == list(range(1, 9))


def test_receivers_that_drop_at_once_count_each_message_once_in_bounded_portions(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_OVERDUE", "_EXCESS"):
        statement = getattr(unadopted, name)
        assert "LIMIT 1000" in statement
        monkeypatch.setattr(unadopted, name, statement.replace("LIMIT 1000", "LIMIT 20"))
    gone = start()
    gone.waiting.change([_empty(number, f"{number % 7}.example") for number in range(1, 201)], ())
    others = [start() for _ in range(3)]
    _ended(gone, *others)
    portions: list[int] = []

    def work(other: Receiver) -> None:
        while _stored(other):
            portions.append(len(other.waiting.drop_abandoned(1e6)))

    at_once(work, others)
    assert sum(portions) == 200
    assert max(portions) <= 40


def test_nobody_waits_for_a_receiver_that_adopts_what_is_to_be_dropped(start: Start) -> None:
    gone, other = start(), start()
    gone.waiting.change([_empty(1), _empty(2)], ())
    _ended(gone, other)
    with gone.database.transaction() as statements:
        statements.execute("SELECT 1 FROM waiting WHERE number = 1 FOR UPDATE")
        assert len(other.waiting.drop_abandoned(1e6)) == 1
    assert _stored(other) == [1]
