"""The deferred messages in the database, which several receivers share."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlib.settings.store_urls import read_store_url
from idlib.storage import Abandoned, Admission, WaitingEntry, WaitingMessage
from idlib.storage.postgresql import waiting as waiting_module
from idlib.storage.postgresql.connection import PostgresDatabase, UnknownOutcomeError
from idlib.storage.postgresql.leases import LEASE_SECONDS, RENEWAL_SECONDS
from testbed.daemons.postgresql import Postgresql
from tests.idlib.storage.threads import at_once
from tests.idlib.storage.waiting import ALICE, BOB, CASES, Case, message, numbers
from tests.integration.group_database import wait_for_a_waiting_statement
from tests.integration.shared_waiting import Receiver, everyone, group

OURS, TO_BE_ADOPTED, COPY = Admission.OURS, Admission.TO_BE_ADOPTED, Admission.COPY


@dataclass(frozen=True)
class _Chosen:
    sender: str

    def __call__(self, senders: Sequence[Abandoned]) -> Collection[str]:
        return [one.sender for one in senders if one.sender == self.sender]


@pytest.fixture(scope="module")
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
def start(url: str) -> Iterator[Callable[[], Receiver]]:
    with group(url) as start:
        yield start


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_each_engine(case: Case, start: Callable[[], Receiver]) -> None:
    case(start().waiting)


def test_a_message_of_a_sender_that_another_receiver_handles_is_adopted_by_that_one(
    start: Callable[[], Receiver],
) -> None:
    one, other = start(), start()
    assert one.waiting.change([message(1)], ()) == (OURS,)
    assert other.waiting.change([message(2), message(3, sender=BOB)], ()) == (TO_BE_ADOPTED, OURS)
    assert (other.waiting.read([1, 2, 3]), other.adopt()) == ((message(3, sender=BOB),), [])
    assert one.adopt() == [2]
    assert one.waiting.read([2]) == (message(2),)
    assert numbers(one.waiting) == [1, 2]
    assert one.adopt() == []


def test_no_receiver_stores_a_copy(start: Callable[[], Receiver]) -> None:
    one, other = start(), start()
    one.waiting.change([message(1)], ())
    copy = [_numbered(message(1), 5), message(6)]
    assert other.waiting.change(copy, ()) == (COPY, TO_BE_ADOPTED)
    assert one.waiting.change(copy, ()) == (COPY, TO_BE_ADOPTED)
    assert one.adopt() == [6]
    one.waiting.change((), [1, 6])
    assert other.waiting.change(copy, ()) == (TO_BE_ADOPTED, TO_BE_ADOPTED)


def test_nobody_waits_for_a_receiver_that_takes_over_a_sender(start: Callable[[], Receiver]) -> None:
    gone, other = start(), start()
    gone.waiting.change([message(1), message(2, sender=BOB)], ())
    gone.leases.abandon()
    with gone.database.transaction() as statements:
        statements.execute("SELECT 1 FROM waiting_sender WHERE sender = ? FOR UPDATE", (message(1).sender,))
        assert other.adopt() == [2]
    assert other.adopt() == [1]


def test_nobody_waits_for_a_receiver_that_removes_a_message(start: Callable[[], Receiver]) -> None:
    one, other = start(), start()
    one.waiting.change([message(1), message(2, sender=BOB)], ())
    assert other.waiting.change([message(3), message(4, sender=BOB)], ()) == (TO_BE_ADOPTED, TO_BE_ADOPTED)
    with other.database.transaction() as statements:
        statements.execute("SELECT 1 FROM waiting WHERE number = 3 FOR UPDATE")
        assert one.adopt() == [4]
    assert one.adopt() == [3]


@pytest.mark.parametrize("is_leaving", [True, False], ids=["ended", "killed"])
def test_the_messages_of_a_receiver_that_has_ended_are_adopted_in_order(
    start: Callable[[], Receiver], postgresql: Postgresql, url: str, *, is_leaving: bool
) -> None:
    gone, other = start(), start()
    gone.waiting.change([message(number) for number in (3, 1, 2)], ())
    assert other.adopt() == []
    if is_leaving:
        gone.leases.abandon()
    else:
        postgresql.run(f"UPDATE receiver SET expires_at = now() WHERE holder = '{gone.leases.holder}'", url)
    other.waiting.change([message(4, sender=BOB)], ())
    assert other.adopt() == [1, 2, 3]
    assert other.waiting.read([1, 2, 3]) == tuple(message(number) for number in (1, 2, 3))
    assert gone.waiting.read([1, 2, 3]) == ()
    gone.waiting.change((), [1, 2, 3])
    assert numbers(other.waiting) == [1, 2, 3, 4]
    assert other.adopt() == []


def test_receivers_share_the_messages_of_one_that_has_ended(start: Callable[[], Receiver]) -> None:
    gone = start()
    senders = [f"device-{number}.example" for number in range(400)]
    gone.waiting.change([message(number, sender=senders[number % 400]) for number in range(1, 1201)], ())
    gone.leases.abandon()
    live = [start() for _ in range(3)]
    adopted: list[list[WaitingEntry]] = [[] for _ in live]

    def work(position: int) -> None:
        while sum(map(len, adopted)) < 1200:
            adopted[position] += live[position].waiting.adopt(everyone)

    at_once(work, range(len(live)))
    assert sorted(one.number for entries in adopted for one in entries) == list(range(1, 1201))
    handled = [{one.sender for one in entries} for entries in adopted]
    assert sum(map(len, handled)) == len(senders)
    for entries in adopted:
        for sender in senders:
            of_sender = [one.number for one in entries if one.sender == sender]
            assert of_sender == sorted(of_sender)


def test_senders_that_do_not_fit_wait_until_a_receiver_has_room_for_them(
    start: Callable[[], Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_module, "_SENDERS_AT_ONCE", 64)
    gone, other = start(), start()
    gone.waiting.change([message(number, sender=f"{number:03}.example") for number in range(1, 201)], ())
    gone.leases.abandon()
    offered: list[str] = []

    def choose(senders: Sequence[Abandoned]) -> Collection[str]:
        offered.extend(one.sender for one in senders)
        return _Chosen("150.example")(senders)

    adopted = [entry.number for _ in range(4) for entry in other.waiting.adopt(choose)]
    assert adopted == [150]
    assert offered == [f"{number:03}.example" for number in range(1, 201)]
    assert start().adopt() == [number for number in range(1, 201) if number != 150]


def test_what_is_offered_is_counted_for_each_area(start: Callable[[], Receiver]) -> None:
    gone, other = start(), start()
    reserved = _numbered(message(1, "é"), 1, is_reserved=True)
    gone.waiting.change([reserved, message(2, "abc"), message(3, "abcd"), message(4, "x", sender=BOB)], ())
    gone.leases.abandon()
    offered: list[Abandoned] = []

    def refuse(senders: Sequence[Abandoned]) -> Collection[str]:
        offered.extend(senders)
        return ()

    assert other.waiting.adopt(refuse) == ()
    assert offered == [Abandoned(ALICE, 1, 2, 2, 7), Abandoned(BOB, 0, 0, 1, 1)]


def test_a_new_message_comes_after_those_that_a_receiver_that_has_ended_left(start: Callable[[], Receiver]) -> None:
    gone, other = start(), start()
    gone.waiting.change([message(1), message(2)], ())
    gone.leases.abandon()
    assert other.waiting.change([message(3)], ()) == (TO_BE_ADOPTED,)
    assert other.waiting.change([message(4)], ()) == (TO_BE_ADOPTED,)
    assert [one.number for one in other.waiting.adopt(lambda _: ())] == [1, 2, 3, 4]
    assert other.waiting.change([message(5)], ()) == (OURS,)


def test_a_sender_that_a_receiver_that_has_just_started_takes_at_this_moment_is_left_to_it(
    start: Callable[[], Receiver], url: str
) -> None:
    gone, late, new = start(), start(), start()
    new.leases.abandon()
    gone.waiting.change([message(1)], ())
    gone.leases.abandon()
    admissions: list[Admission] = []
    thread = threading.Thread(target=lambda: admissions.extend(late.waiting.change([message(2)], ())))
    with PostgresDatabase(read_store_url(url)) as database:
        with database.transaction() as statements:
            statements.execute("UPDATE waiting_sender SET holder = ?", (new.leases.holder,))
            thread.start()
            wait_for_a_waiting_statement(statements)
            new.leases.take()
        thread.join(30)
    assert admissions == [TO_BE_ADOPTED]
    assert late.adopt() == []
    assert new.adopt() == [2]


@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "not-committed"])
def test_an_adoption_whose_outcome_is_unknown_can_be_repeated(
    start: Callable[[], Receiver], monkeypatch: pytest.MonkeyPatch, *, is_committed: bool
) -> None:
    gone, other = start(), start()
    gone.waiting.change([message(1), message(2)], ())
    other.waiting.change([message(3, sender=BOB)], ())
    gone.leases.abandon()
    commit = other.database._commit
    if is_committed:
        other.database.loses_answer = True
    else:
        monkeypatch.setattr(other.database, "_commit", _fail)
    with pytest.raises(UnknownOutcomeError):
        other.waiting.adopt(everyone)
    monkeypatch.setattr(other.database, "_commit", commit)
    assert other.adopt() == [1, 2]
    assert other.adopt() == []


def test_after_an_outage_of_the_database_receivers_may_renew_their_leases_first(
    start: Callable[[], Receiver], postgresql: Postgresql, url: str
) -> None:
    one, other = start(), start()
    one.waiting.change([message(2)], ())
    assert other.adopt() == []
    other.passed += LEASE_SECONDS + 1
    postgresql.run("UPDATE receiver SET expires_at = now()", url)
    assert other.waiting.change([message(3)], ()) == (TO_BE_ADOPTED,)
    assert other.adopt() == []
    assert one.adopt() == [3]
    other.passed += RENEWAL_SECONDS
    assert other.adopt() == []
    other.passed += RENEWAL_SECONDS
    assert other.adopt() == [2, 3]


def test_a_receiver_that_starts_after_an_outage_of_the_database_gives_others_the_same_time(
    start: Callable[[], Receiver], postgresql: Postgresql, url: str
) -> None:
    one, late = start(), start()
    one.waiting.change([message(2)], ())
    postgresql.run("UPDATE receiver SET expires_at = now()", url)
    late.waiting.note_outage()
    for _ in range(2):
        assert late.adopt() == []
        late.passed += RENEWAL_SECONDS
    assert late.adopt() == [2]


def test_a_change_whose_outcome_is_unknown_can_be_repeated(start: Callable[[], Receiver]) -> None:
    one = start()
    one.waiting.change([message(1)], ())
    one.database.loses_answer = True
    with pytest.raises(UnknownOutcomeError):
        one.waiting.change([message(2)], [1])
    assert one.waiting.change([message(2)], [1]) == (OURS,)
    assert numbers(one.waiting) == [2]


def test_a_vacuum_empties_the_file_if_no_message_is_left(
    start: Callable[[], Receiver], postgresql: Postgresql, url: str
) -> None:
    one = start()
    one.waiting.change([message(number, "text" * 300) for number in range(1, 100)], ())
    one.waiting.change((), range(1, 100))
    postgresql.run("VACUUM waiting", url)
    assert postgresql.run("SELECT pg_relation_size('waiting')", url).strip() == "0"


def test_a_sender_without_messages_is_forgotten(
    start: Callable[[], Receiver], postgresql: Postgresql, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, gone = start(), start(), start()
    one.waiting.change([message(1), message(2, sender=BOB)], ())
    gone.waiting.change([message(3, sender="carol.example")], ())
    one.waiting.change((), [1])
    gone.waiting.change((), [3])
    monkeypatch.setattr("idlib.storage.postgresql.waiting._TIDYING_SECONDS", 0.0)
    one.waiting.wipe()
    gone.leases.abandon()
    other.waiting.adopt(everyone)
    assert postgresql.run("SELECT sender FROM waiting_sender", url).split() == [BOB]
    assert other.waiting.change([message(4)], ()) == (OURS,)


def test_the_senders_of_a_flood_that_have_no_messages_are_forgotten_together(
    start: Callable[[], Receiver], postgresql: Postgresql, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = start()
    one.waiting.change([message(1)], ())
    postgresql.run(
        f"INSERT INTO waiting_sender SELECT number || '.example', '{one.leases.holder}'"
        " FROM generate_series(1, 5500) AS number",
        url,
    )
    monkeypatch.setattr("idlib.storage.postgresql.waiting._TIDYING_SECONDS", 0.0)
    one.waiting.wipe()
    assert postgresql.run("SELECT sender FROM waiting_sender", url).split() == [ALICE]


def test_a_sender_that_gets_a_message_at_this_moment_is_not_forgotten(
    start: Callable[[], Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = start(), start()
    monkeypatch.setattr("idlib.storage.postgresql.waiting._TIDYING_SECONDS", 0.0)
    stopping = threading.Event()

    def forget() -> None:
        while not stopping.is_set():
            one.waiting.wipe()

    thread = threading.Thread(target=forget)
    thread.start()
    stored, adopted = 0, 0
    for number in range(1, 200):
        (admission,) = (one if number % 2 else other).waiting.change([message(number)], ())
        stored += 1
        adopted += len(one.adopt()) + len(other.adopt()) + (admission is OURS)
        one.waiting.change((), [number])
        other.waiting.change((), [number])
    stopping.set()
    thread.join(30)
    assert adopted == stored


def test_receivers_that_store_and_adopt_at_once_lose_nothing_and_have_nothing_twice(
    start: Callable[[], Receiver],
) -> None:
    receivers = [start() for _ in range(4)]
    indexes: list[list[int]] = [[] for _ in receivers]

    def work(position: int) -> None:
        waiting = receivers[position].waiting
        for _ in range(40):
            added = [message(number, sender=f"{number % 7}.example") for number in waiting.new_numbers(5)]
            admissions = waiting.change(added, ())
            indexes[position] += [one.number for one, what in zip(added, admissions, strict=True) if what is OURS]
            indexes[position] += [one.number for one in waiting.adopt(everyone)]

    at_once(work, range(len(receivers)))
    for position, one in enumerate(receivers):
        indexes[position] += one.adopt()
        assert sorted(indexes[position]) == numbers(one.waiting)
    held = sorted(number for index in indexes for number in index)
    assert len(held) == 800
    assert len(set(held)) == 800


def _remove(receiver: Receiver) -> None:
    with receiver.database.transaction() as statements:
        waiting_module.remove(statements, [1, 2])


@pytest.mark.parametrize(
    "work",
    [
        lambda receiver: receiver.waiting.limit_deferral(0.0),
        lambda receiver: receiver.waiting.change((), [1, 2]),
        _remove,
    ],
    ids=["limit_deferral", "change", "finish"],
)
def test_rows_are_locked_in_the_order_of_their_numbers(
    start: Callable[[], Receiver], work: Callable[[Receiver], None]
) -> None:
    one, other = start(), start()
    # In this order on the disk.
    one.waiting.change([message(2)], ())
    one.waiting.change([message(1)], ())
    thread = threading.Thread(target=work, args=(one,))
    lock = "SELECT 1 FROM waiting WHERE number = ? FOR UPDATE NOWAIT"
    with other.database.transaction() as statements:
        statements.execute(lock, (1,))
        thread.start()
        wait_for_a_waiting_statement(statements)
        assert statements.execute(lock, (2,)).fetchall() == [(1,)]
    thread.join(30)
    assert not thread.is_alive()


@dataclass
class _Member:
    receiver: Receiver
    index: list[int] = field(default_factory=list)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(["store", "adopt", "adopt one", "print", "end"]), st.integers(0, 4)
        ),
        min_size=5,
        max_size=40,
    )
)
def test_whoever_ends_and_adopts_each_message_is_handled_once_and_in_order(
    url: str, steps: list[tuple[int, str, int]]
) -> None:
    with group(url) as start:
        members = [_Member(start()) for _ in range(4)]
        stored: dict[int, str] = {}
        printed: list[int] = []
        for position, action, choice in steps:
            member = members[position]
            waiting = member.receiver.waiting
            match action:
                case "store":
                    number = waiting.new_numbers(1)[0]
                    stored[number] = f"{choice}.example"
                    if waiting.change([message(number, sender=stored[number])], ()) == (OURS,):
                        member.index.append(number)
                case "adopt":
                    member.index += member.receiver.adopt()
                case "adopt one":
                    chosen = _Chosen(f"{choice}.example")
                    member.index += [one.number for one in waiting.adopt(chosen)]
                case "print":
                    of_sender = sorted(number for number in member.index if stored[number] == f"{choice}.example")
                    for one in waiting.read(of_sender[:1]):
                        printed.append(one.number)
                        waiting.change((), [one.number])
                        member.index.remove(one.number)
                case _:
                    member.receiver.leases.abandon()
                    members[position] = _Member(start())
            _check(members)
        for member in members[1:]:
            member.receiver.leases.abandon()
        rest = members[0].index + members[0].receiver.adopt()
        assert sorted([*printed, *rest]) == sorted(stored)
        assert numbers(members[0].receiver.waiting) == sorted(rest)


def _check(members: Sequence[_Member]) -> None:
    """Check that each index agrees with the store, and that no two receivers handle the same sender."""
    handled: list[str] = []
    for member in members:
        entries = list(member.receiver.waiting.index())
        assert [one.number for one in entries] == sorted(member.index)
        handled += {one.sender for one in entries}
    assert len(handled) == len(set(handled))


def _numbered(one: WaitingMessage, number: int, *, is_reserved: bool = False) -> WaitingMessage:
    return replace(one, number=number, is_reserved=is_reserved)


def _fail(*_: object) -> None:
    raise UnknownOutcomeError("the server is away")
