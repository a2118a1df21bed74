"""The replay memory in PostgreSQL follows the same rules as the one on a device, with several receivers."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.settings.store_urls import read_store_url
from idlib.storage import Printed, ReplayEntry, Tidied, rules
from idlib.storage.forgetting import Forgetting
from idlib.storage.postgresql import printed
from idlib.storage.postgresql.connection import PostgresDatabase, Statements
from idlib.storage.postgresql.replay import PostgresReplay
from testbed.daemons.postgresql import Postgresql
from tests.idlib.storage.forgetting_rules import *  # noqa: F403  # tests
from tests.idlib.storage.replay_model import Step, run_steps, steps
from tests.idlib.storage.replay_rules import *  # noqa: F403  # tests
from tests.idlib.storage.replaying import (
    ALICE,
    BOB,
    DAY,
    MAYBE,
    MINUTE,
    NEW,
    NOW,
    PRINTED,
    entry,
    known,
    number_remembered,
    prove,
    remember,
    small,
    tidy,
    verdicts,
)
from tests.idlib.storage.threads import at_once
from tests.integration.group_database import wait_for_a_waiting_statement

__all__ = ["small"]

Open = Callable[[], PostgresReplay]


@pytest.fixture(scope="module")
def url(postgresql: Postgresql) -> str:
    return postgresql.new_database()


@pytest.fixture
def open_store(url: str) -> Iterator[Open]:
    """Yield what opens the memory as another receiver does; it is empty at first."""
    with contextlib.ExitStack() as opened:

        def open_it() -> PostgresReplay:
            database = opened.enter_context(PostgresDatabase(read_store_url(url)))
            return opened.enter_context(PostgresReplay(database, pause_seconds=0.0))

        empty(open_it())
        yield open_it


def empty(store: PostgresReplay) -> None:
    with store._database.transaction() as statements:
        statements.execute("TRUNCATE fact, sender, bound, unbound")


@pytest.fixture
def store(open_store: Open) -> PostgresReplay:
    return open_store()


def test_facts_are_shared_and_keep_their_first_value_until_they_are_set(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert one.get_fact("group") is None
    assert one.fact("group", "first") == "first"
    assert other.fact("group", "second") == "first"
    other.set_fact("group", "third")
    assert one.get_fact("group") == "third"


def test_the_latest_time_and_the_boot_are_shared(open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert (one.latest_time, one.boot) == (0, "")
    one.note_time(2000)
    other.note_time(1000)
    other.trust_clock_since("boot")
    assert (one.latest_time, one.boot) == (2000, "boot")
    one.reset_time(1000)
    assert other.latest_time == 1000


def test_a_floor_is_shared_and_only_lowering_it_lowers_it(open_store: Open) -> None:
    one, other = open_store(), open_store()
    one.raise_floor(NOW)
    other.raise_floor(NOW - 1)
    assert other.verdict(entry("one", NOW)) is MAYBE
    assert other.verdict(entry("one", NOW + 1)) is NEW
    assert one.verdict(entry("one", None)) is NEW
    assert not other.lower_floor(NOW + 1)
    assert other.lower_floor(NOW - 1)
    assert one.verdict(entry("one", NOW)) is NEW


@pytest.mark.parametrize("issued_at", [NOW, None])
def test_what_one_receiver_has_printed_is_known_to_the_others(issued_at: int | None, open_store: Open) -> None:
    one, other = open_store(), open_store()
    assert other.verdict(entry("one", issued_at)) is NEW
    remember(one, [entry("one", issued_at)])
    assert other.verdict(entry("one", issued_at)) is PRINTED
    assert other.verdict(entry("one", issued_at, BOB)) is NEW
    standing = known(other, ALICE)
    assert (standing.printed, standing.zone, standing.key) == (1, "example", b"key")


def test_a_write_that_is_repeated_counts_once(store: PostgresReplay) -> None:
    for _ in range(3):
        remember(store, [entry("one"), entry("two", None)])
    assert (known(store, ALICE).printed, number_remembered(store)) == (2, 1)


def test_receivers_that_print_messages_of_the_same_senders_lose_none_and_do_not_wait_for_each_other(
    open_store: Open,
) -> None:
    """Each receiver prints messages of the same new names at the same time, in another order."""
    names = [f"{number}.example" for number in range(24)]
    stores = [open_store() for _ in range(4)]
    ready = threading.Barrier(len(stores))

    def work(number: int) -> None:
        ready.wait(20)
        for turn in range(8):
            order = names[number * 6 :] + names[: number * 6]
            if number % 2:
                order.reverse()
            remember(stores[number], [entry(f"{number} {turn}", NOW, name) for name in order], NOW + turn)

    at_once(work, range(len(stores)))
    for name in names:
        standing = known(stores[0], name)
        # Enough to prove it, once it has been known for an hour; from then on they are not all counted.
        assert standing.printed >= rules.PROVEN_MESSAGES
        assert standing.first_printed_at <= NOW + 2
    assert number_remembered(stores[0]) == 4 * 8 * len(names)


def test_every_message_counts_if_two_receivers_print_messages_of_a_sender_at_the_same_moment(
    open_store: Open, url: str
) -> None:
    one, other = open_store(), open_store()
    remember(one, [entry("first")])
    thread = threading.Thread(target=lambda: remember(other, [entry("third")]))
    with PostgresDatabase(read_store_url(url)) as database, database.transaction() as statements:
        statements.execute("SELECT 1 FROM sender FOR UPDATE")
        thread.start()
        wait_for_a_waiting_statement(statements)
        printed.remember(statements, [Printed(entry("second"), "example", b"key")], NOW)
    thread.join()
    assert known(one, ALICE).printed == 3


@pytest.mark.usefixtures("small")
def test_one_receiver_at_a_time_forgets_and_another_continues_when_it_ends(open_store: Open) -> None:
    one, other = open_store(), open_store()
    prove(one, ALICE)
    remember(one, [entry(number, NOW - DAY + number * MINUTE) for number in range(60)])
    one._portion = other._portion = 2
    assert one.tidy(NOW).more
    assert not other.tidy(NOW).more
    assert number_remembered(one) == 63
    one.close()
    while not other.tidy(NOW).more:
        # The server notices a moment later that the connection is closed.
        time.sleep(0.01)
    tidy(other)
    assert number_remembered(other) <= 40
    assert set(verdicts(other, (entry(number, NOW - DAY + number) for number in range(60)))) == {PRINTED, MAYBE}


@pytest.mark.usefixtures("small")
def test_forgetting_that_is_interrupted_begins_again(open_store: Open, postgresql: Postgresql) -> None:
    store = open_store()
    prove(store, ALICE)
    remember(store, [entry(number, NOW - DAY + number * MINUTE) for number in range(60)])
    store._portion = 2
    assert store.tidy(NOW).more
    with store._tidier.separately() as statements:
        ((server,),) = statements.execute("SELECT pg_backend_pid()").fetchall()
    postgresql.run(f"SELECT pg_terminate_backend({server}, 5000)")
    with pytest.raises(StoreError, match="cannot be used"):
        store.tidy(NOW)
    tidy(store)
    assert number_remembered(store) <= 40


def test_forgetting_waits_for_no_receiver_and_forgets_later_what_it_has_left_out(open_store: Open) -> None:
    store, other = open_store(), open_store()
    remember(store, [entry(0, NOW, ALICE), entry(0, NOW, BOB)])
    with other._database.transaction() as statements:
        statements.execute("SELECT 1 FROM sender WHERE name = ? FOR UPDATE", (ALICE,))
        tidy(store, NOW + 17 * DAY)
        assert store.standing(BOB) is None
        assert store.standing(ALICE) is not None
    tidy(store, NOW + 17 * DAY)
    assert store.standing(ALICE) is None


def test_a_portion_that_a_deadlock_ends_begins_again(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = open_store()
    portion = Forgetting.portion

    def end(self: Forgetting, statements: Statements, now: int, limit: int) -> Tidied:
        monkeypatch.setattr(Forgetting, "portion", portion)
        statements.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'deadlock_detected'; END $$")
        return portion(self, statements, now, limit)

    monkeypatch.setattr(Forgetting, "portion", end)
    assert one.tidy(NOW).more
    tidy(one, NOW)


def test_a_pass_begins_only_after_a_pause_whichever_receiver_made_the_last_one(open_store: Open) -> None:
    one, other = open_store(), open_store()
    one._pause_seconds = other._pause_seconds = 300.0
    tidy(one, NOW)
    for now in (NOW, NOW + 299):
        assert not one.tidy(now).more
        assert not other.tidy(now).more
    assert other.tidy(NOW + 300).more


@pytest.mark.usefixtures("small")
def test_a_message_that_is_being_recorded_while_its_name_moves_into_the_pool_stays_known(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_PROVEN_NAMES", 1)
    monkeypatch.setattr(rules, "MAX_UNPROVEN_NAMES", 0)
    one, other = open_store(), open_store()
    midnight = NOW // DAY * DAY
    prove(one, ALICE, midnight - 30 * MINUTE)
    prove(one, BOB, midnight - 10 * MINUTE)
    one._portion = 1
    assert one.tidy(midnight - 1).more
    # The first message of a new day.
    late = Printed(entry("late", midnight + 1), "example", b"key")
    with other._database.transaction() as statements:
        printed.remember(statements, [late], midnight + 1)
        one._portion = 1000
        for _ in range(20):
            one.tidy(midnight + 1)
        assert one.standing(ALICE) is not None
    for _ in range(2):
        tidy(one, midnight + 1)
    assert one.standing(ALICE) is None
    assert one.verdict(late.entry) is PRINTED


def test_messages_printed_while_others_are_forgotten_stay_known(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED_OF_A_NAME", 200)
    one, other = open_store(), open_store()
    prove(one, ALICE)
    remember(one, [entry(number, NOW - DAY + number * 60) for number in range(600)])
    one._portion = 50
    added: list[ReplayEntry] = []
    while one.tidy(NOW).more:
        new = [entry(f"new {len(added) + number}", NOW - DAY + number * 60) for number in range(5)]
        other.remember([Printed(each, "example", b"key") for each in new if other.verdict(each) is NEW], NOW)
        added += new
        assert NEW not in set(verdicts(other, added))
    assert NEW not in set(verdicts(other, (entry(number, NOW - DAY + number * 60) for number in range(600))))


@given(steps=st.lists(steps, max_size=12))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("small")
def test_nothing_printed_becomes_new_and_nothing_new_is_refused(steps: list[Step], url: str) -> None:
    with contextlib.ExitStack() as opened:

        def restart() -> PostgresReplay:
            opened.close()
            database = opened.enter_context(PostgresDatabase(read_store_url(url)))
            return opened.enter_context(PostgresReplay(database, pause_seconds=0.0))

        empty(restart())
        run_steps(steps, restart, is_bounded=True)
