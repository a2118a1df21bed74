"""The leases of client ids, in a real database."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import (
    LEASE_SECONDS,
    RENEWAL_SECONDS,
    VALID_SECONDS,
    Leases,
    OtherReceiverError,
    SoleLease,
    is_live,
    new_holder,
)
from testbed.daemons.postgresql import Postgresql

Open = Callable[..., Leases]


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
def new_leases(store: str) -> Iterator[Open]:
    """Open the leases of one receiver after another."""
    opened: list[PostgresDatabase] = []

    def start(kind: type[Leases] = Leases, clock: _Clock | None = None) -> Leases:
        opened.append(PostgresDatabase(read_store_url(store)))
        leases = kind(opened[-1], new_holder(), lambda: secrets.token_hex(16), clock or _Clock())
        leases.prepare()
        return leases

    yield start
    for database in opened:
        database.close()


@pytest.fixture
def expire(postgresql: Postgresql, store: str) -> Callable[[Leases], None]:
    """Let the leases of a receiver expire, as if it had not renewed them for 15 s."""

    def run(leases: Leases) -> None:
        postgresql.run(f"UPDATE receiver SET expires_at = now() WHERE holder = '{leases.holder}'", store)

    return run


def is_any_subscribed(new_leases: Open) -> bool:
    """Return whether another receiver could leave its session to one of those that run."""
    another = new_leases()
    another.take()
    return another.begin_to_leave()


def test_a_first_lease_has_no_session(new_leases: Open) -> None:
    leases = new_leases()
    client_id = leases.take()
    assert leases.session(client_id) is None
    assert leases.is_valid
    assert leases.holds(client_id)
    assert leases.receivers == 1


def test_an_abandoned_lease_is_taken_first(new_leases: Open, expire: Callable[[Leases], None]) -> None:
    gone = new_leases()
    client_id = gone.take()
    gone.note_subscribed()
    expire(gone)
    assert new_leases().take() == client_id
    assert is_any_subscribed(new_leases)


def test_a_session_that_was_never_subscribed_with_has_to_be_subscribed(new_leases: Open) -> None:
    gone = new_leases()
    client_id = gone.take()
    gone.abandon()
    assert new_leases().take() == client_id
    assert not is_any_subscribed(new_leases)


def test_a_session_that_has_ended_has_to_be_subscribed_again(
    new_leases: Open, expire: Callable[[Leases], None]
) -> None:
    """The receiver died before it could delete the lease."""
    gone = new_leases()
    client_id = gone.take()
    gone.note_subscribed()
    gone.release(client_id)
    expire(gone)
    assert new_leases().take() == client_id
    assert not is_any_subscribed(new_leases)


def test_a_live_lease_is_left_alone(new_leases: Open) -> None:
    first, second = new_leases(), new_leases()
    assert first.take() != second.take()
    assert second.take_abandoned() is None
    assert second.receivers == 2


def test_taking_twice_takes_one(new_leases: Open) -> None:
    """A commit of unknown outcome is repeated."""
    leases = new_leases()
    assert leases.take() == leases.take()
    assert leases.receivers == 1


def test_receivers_that_start_together_have_different_leases(new_leases: Open) -> None:
    """Half as many leases are abandoned as receivers start, and all start at the same moment."""
    gone = [new_leases() for _ in range(4)]
    for one in gone:
        one.take()
    for one in gone:
        one.abandon()
    starting = [new_leases() for _ in range(8)]
    barrier = threading.Barrier(len(starting))
    taken: list[str] = []

    def start(leases: Leases) -> None:
        barrier.wait()
        taken.append(leases.take())

    _run_together(start, starting)
    assert len(set(taken)) == len(starting)


def test_an_abandoned_session_is_drained_by_one_receiver(new_leases: Open, expire: Callable[[Leases], None]) -> None:
    gone = [new_leases() for _ in range(3)]
    abandoned = {one.take() for one in gone}
    live = [new_leases() for _ in range(4)]
    for one in live:
        one.take()
    for one in gone:
        expire(one)
    barrier = threading.Barrier(len(live))
    drained: list[str] = []

    def drain(leases: Leases) -> None:
        barrier.wait()
        ours: list[str] = []
        while (client_id := leases.take_abandoned(ours)) is not None:
            ours.append(client_id)
            drained.append(client_id)

    _run_together(drain, live)
    assert sorted(drained) == sorted(abandoned)


def test_a_session_that_a_receiver_does_not_drain_although_it_has_the_lease_is_returned_again(
    new_leases: Open, expire: Callable[[Leases], None]
) -> None:
    """A commit of unknown outcome is repeated, and a drain ends if the lease was not renewed in time."""
    gone, live, other = new_leases(), new_leases(), new_leases()
    client_id = gone.take()
    live.take()
    other.take()
    expire(gone)
    assert live.take_abandoned() == client_id
    assert live.take_abandoned() == client_id
    assert live.take_abandoned([client_id]) is None
    assert other.take_abandoned() is None


def test_nobody_waits_for_a_receiver_that_takes_an_abandoned_session(
    new_leases: Open, store: str, expire: Callable[[Leases], None]
) -> None:
    gone, live = [new_leases() for _ in range(2)], new_leases()
    first, second = (one.take() for one in gone)
    live.take()
    for one in gone:
        expire(one)
    with PostgresDatabase(read_store_url(store)) as database, database.transaction() as statements:
        statements.execute("SELECT 1 FROM receiver WHERE client_id = ? FOR UPDATE", (first,))
        assert live.take_abandoned() == second
        assert live.take_abandoned([second]) is None
    assert live.take_abandoned([second]) == first


def test_a_drained_session_stays_with_its_receiver_until_it_is_released(
    new_leases: Open, expire: Callable[[Leases], None]
) -> None:
    gone, live, other = new_leases(), new_leases(), new_leases()
    abandoned = gone.take()
    live.take()
    other.take()
    expire(gone)
    assert live.take_abandoned() == abandoned
    assert live.renew()
    assert live.holds(abandoned)
    assert other.take_abandoned() is None
    live.release(abandoned)
    assert not live.holds(abandoned)
    assert other.take_abandoned() is None


def test_after_an_outage_of_the_database_receivers_may_renew_their_leases_before_others_take_their_sessions(
    new_leases: Open, expire: Callable[[Leases], None]
) -> None:
    clock = _Clock()
    one, gone, other = new_leases(clock=clock), new_leases(), new_leases()
    one.take()
    gone_id, other_id = gone.take(), other.take()
    expire(gone)
    assert one.take_abandoned() == gone_id
    clock.now += LEASE_SECONDS - RENEWAL_SECONDS
    expire(other)
    assert one.take_abandoned([gone_id]) is None
    assert one.renew()
    assert one.take_abandoned([gone_id]) is None
    # What it drains already is its own.
    assert one.take_abandoned() == gone_id
    for _ in range(2):
        assert one.take_abandoned([gone_id]) is None
        clock.now += RENEWAL_SECONDS
        assert one.renew()
    assert one.take_abandoned([gone_id]) == other_id


def test_a_receiver_that_starts_after_an_outage_of_the_database_gives_others_the_same_time(
    new_leases: Open, expire: Callable[[Leases], None]
) -> None:
    clock = _Clock()
    late, other = new_leases(clock=clock), new_leases()
    late.take()
    other_id = other.take()
    expire(other)
    late.note_outage()
    for _ in range(2):
        assert late.take_abandoned() is None
        clock.now += RENEWAL_SECONDS
        assert late.renew()
    assert late.take_abandoned() == other_id


def test_a_receiver_whose_lease_was_taken_loses_it(new_leases: Open, expire: Callable[[Leases], None]) -> None:
    late = new_leases()
    client_id = late.take()
    term = late.term
    expire(late)
    assert new_leases().take() == client_id
    assert not late.renew()
    assert not late.holds(client_id)
    assert late.term is None
    assert late.take() != client_id
    assert late.term not in {None, term}


def test_a_lease_that_expired_is_a_new_term_even_if_no_one_took_it(
    new_leases: Open, expire: Callable[[Leases], None]
) -> None:
    """Others may have taken over what was claimed."""
    leases = new_leases()
    client_id = leases.take()
    term = leases.term
    expire(leases)
    assert not leases.renew()
    assert leases.take_abandoned() is None
    assert leases.take() == client_id
    assert leases.term not in {None, term}


def test_a_lease_is_valid_only_as_long_as_it_is_renewed(new_leases: Open) -> None:
    clock = _Clock()
    leases = new_leases(clock=clock)
    assert leases.term is None
    leases.take()
    term = leases.term
    clock.now += VALID_SECONDS
    assert leases.term is None
    assert leases.renew()
    assert leases.term == term


def test_a_renewal_that_is_answered_after_the_lease_would_have_expired_begins_a_new_term(new_leases: Open) -> None:
    """Another receiver may have seen that it had expired before the renewal was committed."""
    clock = _Clock()
    leases = new_leases(clock=clock)
    leases.take()
    term = leases.term
    clock.now += LEASE_SECONDS
    assert leases.renew()
    assert leases.term not in {None, term}


def test_a_receiver_is_live_while_its_lease_is(
    new_leases: Open, expire: Callable[[Leases], None], postgresql: Postgresql, store: str
) -> None:
    leases = new_leases()

    def ask() -> str:
        live = is_live("holding.name")
        return postgresql.run(f"SELECT {live} FROM (SELECT '{leases.holder}' AS name) AS holding", store).strip()

    assert ask() == "f"
    leases.take()
    assert ask() == "t"
    expire(leases)
    assert ask() == "f"


def test_a_receiver_whose_session_has_ended_is_live_until_it_ends(
    new_leases: Open, postgresql: Postgresql, store: str
) -> None:
    """It may still print deferred messages."""
    leaving = new_leases()
    leaving.release(leaving.take())
    assert leaving.is_valid
    assert leaving.renew()
    other = new_leases()
    other.take()
    assert other.receivers == 2
    leaving.abandon()
    assert other.take_abandoned() is None
    assert postgresql.run("SELECT holder FROM receiver", store).split() == [other.holder]


def test_the_last_receiver_keeps_its_session(new_leases: Open) -> None:
    leaving = [new_leases() for _ in range(6)]
    for one in leaving:
        one.take()
        one.note_subscribed()
    barrier = threading.Barrier(len(leaving))
    others_stay: list[bool] = []

    def leave(leases: Leases) -> None:
        barrier.wait()
        others_stay.append(leases.begin_to_leave())

    _run_together(leave, leaving)
    assert sorted(others_stay) == [False, True, True, True, True, True]


def test_receivers_that_begin_to_leave_at_the_same_moment_decide_one_after_another(
    new_leases: Open, store: str
) -> None:
    leaving = [new_leases() for _ in range(2)]
    for one in leaving:
        one.take()
        one.note_subscribed()
    others_stay: list[bool] = []
    threads = [threading.Thread(target=lambda one=one: others_stay.append(one.begin_to_leave())) for one in leaving]
    with PostgresDatabase(read_store_url(store)) as database, database.transaction() as statements:
        # Both have begun before one of them can note its decision.
        statements.execute("SELECT 1 FROM receiver FOR UPDATE")
        for thread in threads:
            thread.start()
        waiting = "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted"
        while len(statements.execute(waiting).fetchall()) < len(threads):
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert sorted(others_stay) == [False, True]


def test_a_receiver_that_has_not_subscribed_yet_does_not_count_as_one_that_stays(new_leases: Open) -> None:
    leaving, starting = new_leases(), new_leases()
    leaving.take()
    leaving.note_subscribed()
    starting.take()
    assert not leaving.begin_to_leave()
    starting.note_subscribed()
    assert leaving.begin_to_leave()


def test_a_receiver_whose_subscription_is_noted_while_it_leaves_does_not_count_as_one_that_stays(
    new_leases: Open,
) -> None:
    first, last = new_leases(), new_leases()
    for leases in (first, last):
        leases.take()
        leases.note_subscribed()
    assert first.begin_to_leave()
    first.note_subscribed()
    assert not last.begin_to_leave()


def test_a_session_that_was_drained_in_part_has_to_be_subscribed_again(new_leases: Open) -> None:
    drain, gone = new_leases(), new_leases()
    drain.take()
    client_id = gone.take()
    gone.note_subscribed()
    gone.abandon()
    assert drain.take_abandoned() == client_id
    drain.abandon()
    assert client_id in [new_leases().take() for _ in range(2)]
    assert not is_any_subscribed(new_leases)


def test_a_session_that_was_left_in_part_has_to_be_subscribed_again(new_leases: Open) -> None:
    leaving, staying = new_leases(), new_leases()
    client_id = leaving.take()
    staying.take()
    for leases in (leaving, staying):
        leases.note_subscribed()
    assert leaving.begin_to_leave()
    leaving.abandon()
    assert new_leases().take() == client_id
    assert not staying.begin_to_leave()


def test_what_is_noted_of_a_session_goes_with_its_lease(new_leases: Open) -> None:
    first, second = new_leases(), new_leases()
    client_id = first.take()
    assert first.session(client_id) is None
    first.note_session(client_id, "a note")
    first.abandon()
    assert second.take() == client_id
    first.note_session(client_id, "a late note")
    assert second.session(client_id) == "a note"
    assert first.session(client_id) is None


def test_the_session_that_was_kept_is_resumed_at_once(new_leases: Open) -> None:
    last = new_leases()
    client_id = last.take()
    last.note_subscribed()
    last.begin_to_leave()
    last.abandon()
    assert not last.is_valid
    assert new_leases().take() == client_id
    assert is_any_subscribed(new_leases)


def test_a_single_receiver_is_the_only_one(new_leases: Open) -> None:
    first = new_leases(SoleLease)
    client_id = first.take()
    for kind in (SoleLease, Leases):
        with pytest.raises(OtherReceiverError, match="another receiver uses the database"):
            new_leases(kind).take()
    assert not first.begin_to_leave()
    first.abandon()
    assert new_leases(SoleLease).take() == client_id


def test_a_single_receiver_does_not_start_beside_a_group(new_leases: Open) -> None:
    new_leases().take()
    with pytest.raises(OtherReceiverError):
        new_leases(SoleLease).take()


def test_a_group_drains_the_session_of_a_single_receiver(new_leases: Open) -> None:
    """It is subscribed without the group, so it must not be the session of one of the group."""
    single, leases = new_leases(SoleLease), new_leases()
    client_id = single.take()
    single.abandon()
    assert leases.take() != client_id
    assert leases.take_abandoned() == client_id


def _run_together(function: Callable[[Leases], None], receivers: list[Leases]) -> None:
    threads = [threading.Thread(target=function, args=(one,)) for one in receivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
