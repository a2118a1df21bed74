import hashlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.storage import Printed, Remembered, ReplayEntry, ReplayStore, Tidied, rules
from idlib.storage.replay import FILE_NAME, ReplayMemory

NOW: Final = 1_800_000_000
MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 24 * HOUR
ALICE: Final = "alice.example"
BOB: Final = "bob.example"
NEW, PRINTED, MAYBE = Remembered.NEW, Remembered.PRINTED, Remembered.MAYBE_FORGOTTEN


def entry(identifier: object, issued_at: int | None = NOW, sender: str = ALICE) -> ReplayEntry:
    return ReplayEntry(sender, hashlib.sha256(f"{sender} {identifier}".encode()).digest()[:16], issued_at)


def remember(
    store: ReplayStore,
    entries: Iterable[ReplayEntry],
    now: int = NOW,
    *,
    zone: str = "example",
    is_listed: bool = False,
) -> None:
    store.remember([Printed(one, zone, b"key", is_listed) for one in entries], now)


def prove(store: ReplayStore, sender: str, now: int = NOW, zone: str = "example") -> None:
    for number, before in enumerate((2 * HOUR, HOUR, 1)):
        at = now - before
        remember(store, [entry(f"proof {number} {now}", at, sender)], at, zone=zone)
    standing = store.standing(sender)
    assert standing is not None
    assert standing.is_proven


def tidy(store: ReplayStore, now: int = NOW) -> Tidied:
    """Tidy until nothing is left to do, and return all that was done."""
    early, pool_raised = 0, False
    raised: set[str] = set()
    for _ in range(100_000):
        done = store.tidy(now)
        early += done.forgotten_unbound_early
        raised.update(done.raised)
        pool_raised |= done.pool_raised
        if not done.more:
            return Tidied(
                more=False, forgotten_unbound_early=early, raised=tuple(sorted(raised)), pool_raised=pool_raised
            )
    raise AssertionError("tidying does not end")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every bound a hundred-thousandth part or so of what it is."""
    for name, value in {
        "MAX_REMEMBERED_OF_A_NAME": 15,
        "MAX_REMEMBERED_OF_UNPROVEN": 20,
        "MAX_REMEMBERED": 40,
        "MAX_REMEMBERED_UNBOUND": 10,
        "MAX_UNPROVEN_NAMES": 10,
        "MAX_PROVEN_NAMES": 6,
    }.items():
        monkeypatch.setattr(rules, name, value)


def number_remembered(store: ReplayMemory) -> int:
    return int(store._connection.execute("SELECT count(*) FROM bound").fetchone()[0])


def test_facts_are_kept_as_they_were_first_until_they_are_set(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        assert store.fact("client_id", "first") == "first"
    with ReplayMemory(tmp_path) as store:
        assert store.fact("client_id", "second") == "first"
        store.set_fact("client_id", "third")
    with ReplayMemory(tmp_path) as store:
        assert store.fact("client_id", "fourth") == "third"


def test_the_latest_time_and_the_boot_are_kept(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        assert (store.latest_time, store.boot) == (0, "")
        store.note_time(2000)
        store.note_time(1000)
        store.trust_clock_since("boot")
    with ReplayMemory(tmp_path) as store:
        assert (store.latest_time, store.boot) == (2000, "boot")


@pytest.mark.parametrize("issued_at", [NOW, None])
def test_a_printed_message_is_known_after_a_restart_and_others_are_new(issued_at: int | None, tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry("one", issued_at)) is NEW
        remember(store, [entry("one", issued_at)])
        assert store.verdict(entry("one", issued_at)) is PRINTED
    with ReplayMemory(tmp_path) as store:
        tidy(store)
        assert store.verdict(entry("one", issued_at)) is PRINTED
        assert store.verdict(entry("two", issued_at)) is NEW
        assert store.verdict(entry("one", issued_at, BOB)) is NEW


def test_the_same_identifier_with_another_time_is_known(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        remember(store, [entry("one", NOW - 13 * DAY)])
        assert store.verdict(entry("one", NOW)) is PRINTED
        prove(store, ALICE, NOW + DAY)
        assert store.verdict(entry("one", NOW + DAY)) is PRINTED


def test_a_bound_message_is_known_for_14_days_and_5_minutes_and_never_becomes_new(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        remember(store, [entry("one")])
        tidy(store, NOW + 14 * DAY + 5 * MINUTE)
        assert store.verdict(entry("one")) is PRINTED
        tidy(store, NOW + 15 * DAY + 5 * MINUTE)
        assert number_remembered(store) == 0
        assert store.verdict(entry("one")) is MAYBE
        assert store.verdict(entry("new", NOW + 15 * DAY)) is NEW


def test_an_unbound_message_is_known_for_a_year(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        remember(store, [entry("one", None)])
        assert tidy(store, NOW + 365 * DAY).forgotten_unbound_early == 0
        assert store.verdict(entry("one", None)) is PRINTED
        assert tidy(store, NOW + 373 * DAY).forgotten_unbound_early == 0
        assert store.verdict(entry("one", None)) is NEW


def test_a_names_standing_grows_and_is_kept(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        assert store.standing(ALICE) is None
        remember(store, [entry("one"), entry("two")])
        remember(store, [entry("three")], NOW + HOUR + 1)
    with ReplayMemory(tmp_path) as store:
        standing = store.standing(ALICE)
        assert standing is not None
        assert (standing.printed, standing.first_printed_at, standing.last_printed_at) == (3, NOW, NOW + HOUR + 1)
        assert (standing.zone, standing.key, standing.proven_at) == ("example", b"key", NOW + HOUR + 1)


def test_a_proven_name_is_known_for_90_days_another_for_16(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        remember(store, [entry("one", NOW, BOB)])
        tidy(store, NOW + 16 * DAY)
        assert store.standing(BOB) is not None
        tidy(store, NOW + 16 * DAY + 1)
        assert store.standing(BOB) is None
        tidy(store, NOW + 90 * DAY - 1)
        assert store.standing(ALICE) is not None
        tidy(store, NOW + 90 * DAY + 1)
        assert store.standing(ALICE) is None


@pytest.mark.usefixtures("small")
def test_past_its_bound_a_names_oldest_messages_are_refused_and_no_new_one_ever(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, BOB)
        prove(store, ALICE)
        entries = [entry(number, NOW + number * HOUR) for number in range(40)]
        for one in entries:
            now = one.issued_at or 0
            assert store.verdict(one) is NEW
            remember(store, [one], now)
            assert set(tidy(store, now).raised) <= {ALICE}
            assert store.verdict(one) is PRINTED
        verdicts = [store.verdict(one) for one in entries]
        assert verdicts == sorted(verdicts, key=[MAYBE, PRINTED].index)
        assert 14 <= verdicts.count(PRINTED) <= 15
        assert store.verdict(entry("old", NOW + HOUR)) is MAYBE
        assert store.verdict(entry("old", NOW + HOUR, BOB)) is NEW
        assert store.verdict(entry("old", NOW + HOUR, "carol.example")) is NEW


@pytest.mark.usefixtures("small")
def test_a_names_watermark_is_dropped_with_time(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        remember(store, [entry(number, NOW - 2 * HOUR) for number in range(20)])
        assert tidy(store).raised == (ALICE,)
        standing = store.standing(ALICE)
        assert standing is not None
        assert NOW - 2 * HOUR <= standing.watermark < NOW - 2 * HOUR + MINUTE
        tidy(store, standing.watermark + 14 * DAY + 5 * MINUTE + 1)
        standing = store.standing(ALICE)
        assert standing is not None
        assert standing.watermark == -1


@pytest.mark.usefixtures("small")
def test_what_was_issued_within_a_quarter_of_an_hour_is_never_forgotten(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        entries = [entry(number, NOW - number % 14 * MINUTE) for number in range(100)]
        entries += [entry(number, NOW + 299, BOB) for number in range(100)]
        remember(store, entries)
        # Only the proofs are older.
        assert tidy(store) == Tidied(more=False, pool_raised=True)
        assert [store.verdict(one) for one in entries] == [PRINTED] * 200
        assert store.verdict(entry("new", NOW - 14 * MINUTE)) is NEW
        tidy(store, NOW + HOUR)
        assert number_remembered(store) <= 40


@pytest.mark.usefixtures("small")
def test_strangers_make_the_memory_forget_strangers_alone(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE, NOW - 5 * DAY)
        alices = [entry(number, NOW - DAY) for number in range(10)]
        remember(store, alices)
        strangers = [entry("x", NOW - HOUR + number * MINUTE, f"{number}.attack.example") for number in range(40)]
        remember(store, strangers, NOW)
        done = tidy(store)
        assert done == Tidied(more=False, pool_raised=True)
        assert [store.verdict(one) for one in alices] == [PRINTED] * 10
        assert store.verdict(entry("delayed", NOW - 2 * DAY)) is NEW
        assert {store.verdict(one) for one in strangers} == {PRINTED, MAYBE}
        assert store.verdict(entry("fresh", NOW, "40.attack.example")) is NEW


@pytest.mark.usefixtures("small")
def test_a_listed_name_is_not_displaced_by_strangers_from_its_first_message_on(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        remember(store, [entry("first", NOW - DAY)], NOW - DAY, is_listed=True)
        for number in range(60):
            remember(store, [entry("x", NOW - DAY + number * MINUTE, f"{number}.attack.example")], NOW)
        assert tidy(store).pool_raised
        assert store.verdict(entry("first", NOW - DAY)) is PRINTED
        assert store.standing(ALICE) is not None
        assert store.verdict(entry("delayed", NOW - DAY + HOUR)) is NEW


@pytest.mark.usefixtures("small")
def test_past_the_total_the_pool_goes_first_and_then_the_largest_name(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        for name, number in ((ALICE, 8), (BOB, 12), ("carol.example", 6)):
            prove(store, name)
            remember(store, [entry(one, NOW - DAY + one * MINUTE, name) for one in range(number)])
        strangers = [entry("x", NOW - DAY, f"{number}.attack.example") for number in range(8)]
        remember(store, strangers)
        assert number_remembered(store) > 40
        assert tidy(store) == Tidied(more=False, pool_raised=True)
        assert {store.verdict(one) for one in strangers} == {MAYBE}
        remember(store, [entry(number, NOW - DAY + number * MINUTE, "carol.example") for number in range(6, 13)])
        remember(store, [entry(number, NOW - DAY + number * MINUTE) for number in range(8, 13)])
        remember(store, [entry(number, NOW - DAY + number * MINUTE, BOB) for number in range(12, 14)])
        assert number_remembered(store) == 49
        assert tidy(store) == Tidied(more=False, raised=(BOB,), pool_raised=True)
        assert 38 <= number_remembered(store) <= 40
        assert store.verdict(entry(0, NOW - DAY, BOB)) is MAYBE
        assert store.verdict(entry(0, NOW - DAY)) is PRINTED


@pytest.mark.usefixtures("small")
def test_unbound_messages_of_strangers_are_forgotten_first_the_oldest_first_and_counted(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        alices = [entry(number, None) for number in range(6)]
        remember(store, alices)
        old = [entry(number, None, BOB) for number in range(3)]
        remember(store, old, NOW - 30 * DAY)
        new = [entry(number, None, f"{number}.attack.example") for number in range(4)]
        remember(store, new, NOW)
        assert tidy(store).forgotten_unbound_early == 3
        assert [store.verdict(one) for one in (*alices, *old, *new)] == [PRINTED] * 6 + [NEW] * 3 + [PRINTED] * 4
        alices += [entry(number, None) for number in range(6, 11)]
        remember(store, alices[6:])
        assert tidy(store).forgotten_unbound_early == 5
        assert [store.verdict(one) for one in alices].count(PRINTED) == 10
        assert {store.verdict(one) for one in new} == {NEW}


@pytest.mark.usefixtures("small")
def test_the_number_of_unproven_names_is_bounded_and_their_messages_stay_known(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        entries = [entry("x", NOW - HOUR, f"{number}.attack.example") for number in range(15)]
        for number, one in enumerate(entries):
            remember(store, [one], NOW + number)
        tidy(store)
        assert [store.standing(one.sender) is None for one in entries] == [True] * 5 + [False] * 10
        assert [store.verdict(one) for one in entries] == [PRINTED] * 15
        assert store.standing(ALICE) is not None


@pytest.mark.usefixtures("small")
def test_past_the_bound_of_proven_names_the_zone_with_most_loses_its_least_recent(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE, NOW - 10 * DAY)
        names = [f"{number}.attack.example" for number in range(8)]
        for number, name in enumerate(names):
            prove(store, name, NOW + number * HOUR, "attack.example")
        now = NOW + 8 * HOUR
        tidy(store, now)
        kept = [(standing := store.standing(name)) is not None and standing.is_proven for name in names]
        assert kept == [False] * 3 + [True] * 5
        standing = store.standing(ALICE)
        assert standing is not None
        assert standing.is_proven
        for number, name in enumerate(names):
            at = NOW + number * HOUR
            assert store.verdict(entry(f"proof 2 {at}", at - 1, name)) is PRINTED
        prove(store, names[0], now + 2 * HOUR, "attack.example")
        assert store.verdict(entry(f"proof 0 {NOW}", NOW - 2 * HOUR, names[0])) is PRINTED


@pytest.mark.usefixtures("small")
def test_a_name_with_many_messages_moves_into_the_pool_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_PROVEN_NAMES", 1)
    for name in ("MAX_REMEMBERED_OF_A_NAME", "MAX_REMEMBERED_OF_UNPROVEN", "MAX_REMEMBERED"):
        monkeypatch.setattr(rules, name, 10_000)
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        entries = [entry(number, NOW - number * HOUR) for number in range(300)]
        remember(store, entries)
        prove(store, BOB, NOW + 2 * HOUR)
        more = True
        while more:
            store._portion = 50
            more = store.tidy(NOW + 2 * HOUR).more
            assert {store.verdict(one) for one in entries} == {PRINTED}
        standing = store.standing(ALICE)
        assert standing is not None
        assert not standing.is_proven


def test_a_floor_refuses_whatever_is_as_old_and_never_sinks(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        store.raise_floor(NOW)
        store.raise_floor(NOW - 1)
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry("one", NOW)) is MAYBE
        assert store.verdict(entry("one", NOW + 1)) is NEW
        assert store.verdict(entry("one", None)) is NEW


def test_nothing_is_refused_in_a_year_of_a_message_a_second_from_one_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One of 4000 messages, and of each bound.
    for name in ("MAX_REMEMBERED_OF_A_NAME", "MAX_REMEMBERED_OF_UNPROVEN", "MAX_REMEMBERED"):
        monkeypatch.setattr(rules, name, getattr(rules, name) // 4000)
    with ReplayMemory(tmp_path) as store:
        store._connection.execute("PRAGMA synchronous = OFF")
        prove(store, ALICE)
        size = 0
        for now in range(NOW, NOW + 365 * DAY, 4000):
            one = entry(now, now)
            assert store.verdict(one) is NEW
            remember(store, [one], now)
            if (now - NOW) % (25 * 4000) == 0:
                assert tidy(store, now) == Tidied(more=False)
            if now < NOW + 30 * DAY:
                size = (tmp_path / FILE_NAME).stat().st_size
        assert number_remembered(store) < 1_500_000 / 4000
        # Pages that were freed are used again.
        assert (tmp_path / FILE_NAME).stat().st_size <= size * 1.2


def test_forgetting_keeps_up_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED_OF_A_NAME", 20_000)
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        remember(store, [entry(number, NOW - 10 * DAY + number * 10) for number in range(60_000)])
        portions = 1
        # The store is free for other threads between two of them.
        while store.tidy(NOW).more:
            portions += 1
        assert portions > 3
        assert number_remembered(store) <= 20_000
        remember(store, [entry(number, NOW + 20 * DAY) for number in range(10)], NOW + 20 * DAY)
        tidy(store, NOW + 20 * DAY)
        assert number_remembered(store) == 10


def test_how_much_there_is_is_known_after_a_restart_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED_OF_A_NAME", 1000)
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        remember(store, [entry(number, NOW - DAY + number) for number in range(3000)])
    with ReplayMemory(tmp_path) as store:
        for number in range(5):
            store._portion = 100
            assert store.tidy(NOW).more
            # Some of these are inserted before the place up to which it has counted, some behind it.
            remember(store, [entry(f"{number} {one}", NOW - DAY + one * 50) for one in range(100)])
        tidy(store)
        assert number_remembered(store) == store._kept_books.bound.total() if store._kept_books else False
        assert 900 < number_remembered(store) <= 1000


def test_a_failed_change_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        prove(store, ALICE)
        tidy(store)
        store._connection.execute("PRAGMA max_page_count = 14")
        before = (number_remembered(store), store.standing(ALICE), store.standing(BOB))
        with pytest.raises(StoreError, match="cannot be read or written"):
            remember(store, [entry(number, NOW, f"{number}.example") for number in range(10_000)])
        assert (number_remembered(store), store.standing(ALICE), store.standing(BOB)) == before
        assert store.standing("1.example") is None
        assert store.verdict(entry(1, NOW, "1.example")) is NEW
        store._connection.execute("PRAGMA max_page_count = 1000000")
        remember(store, [entry(1, NOW, "1.example")])
        tidy(store)
        assert store.verdict(entry(1, NOW, "1.example")) is PRINTED


def test_a_group_survives_kill_9(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os
        from pathlib import Path
        from idlib.storage import Printed, ReplayEntry
        from idlib.storage.replay import ReplayMemory
        store = ReplayMemory(Path({str(tmp_path)!r}))
        entries = [ReplayEntry("alice.example", bytes([number]) * 16, {NOW}) for number in range(32)]
        store.remember([Printed(one, "example", b"key") for one in entries], {NOW})
        print("remembered", flush=True)
        os.kill(os.getpid(), {signal.SIGKILL})
        """)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "remembered\n"), killed.stderr
    with ReplayMemory(tmp_path) as store:
        assert {store.verdict(ReplayEntry(ALICE, bytes([number]) * 16, NOW)) for number in range(32)} == {PRINTED}


def test_a_copy_of_the_files_at_any_moment_of_forgetting_makes_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED_OF_A_NAME", 200)
    entries = [entry(number, NOW - DAY + number * MINUTE) for number in range(600)]
    with ReplayMemory(tmp_path / "data") as store:
        prove(store, ALICE)
        remember(store, entries)
        more = True
        copies = 0
        while more:
            store._portion = 50
            more = store.tidy(NOW).more
            copy = tmp_path / f"copy {copies}"
            shutil.copytree(tmp_path / "data", copy)
            with ReplayMemory(copy) as killed:
                assert NEW not in {killed.verdict(one) for one in entries}
            copies += 1
        assert copies > 10


def test_reading_at_once_in_many_threads(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        failures: list[BaseException] = []

        def work(name: str) -> None:
            try:
                for number in range(50):
                    one = entry(number, NOW, name)
                    assert store.verdict(one) is NEW
                    remember(store, [one])
                    store.tidy(NOW)
                    assert store.verdict(one) is PRINTED
            except BaseException as failure:  # noqa: BLE001  # to be raised below
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(name,)) for name in (ALICE, BOB, "carol.example")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


_names = st.sampled_from(["a.example", "b.example", "c.example", "d.attack", "e.attack", "f.attack", "g.attack"])
_steps = st.one_of(
    st.tuples(
        st.just("print"),
        st.lists(st.tuples(_names, st.integers(0, 60), st.integers(-13 * DAY, 300), st.booleans()), max_size=12),
    ),
    st.tuples(st.just("wait"), st.sampled_from([1, MINUTE, HOUR, 2 * HOUR, DAY, 5 * DAY, 17 * DAY])),
    st.tuples(st.just("tidy"), st.integers(1, 30)),
    st.tuples(st.just("restart"), st.none()),
)


@given(steps=st.lists(_steps, max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("small")
def test_nothing_printed_becomes_new_and_nothing_new_is_refused(
    steps: list[tuple[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _run(steps, tmp_path_factory.mktemp("replay"), is_bounded=True)


@given(steps=st.lists(_steps, max_size=40))
@settings(deadline=None)
def test_within_the_bounds_exactly_what_was_printed_is_known(
    steps: list[tuple[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _run(steps, tmp_path_factory.mktemp("replay"), is_bounded=False)


class _Model:
    """A memory that forgets nothing, and what may be said of it."""

    def __init__(self, *, is_bounded: bool) -> None:
        self.printed: dict[tuple[str, bytes], int] = {}
        self._is_bounded = is_bounded

    def check(self, verdict: Remembered, one: ReplayEntry, now: int) -> None:
        assert one.issued_at is not None
        first = self.printed.get((one.sender, one.identifier))
        if first is None:
            assert verdict is not PRINTED
            if not self._is_bounded or one.issued_at > now - rules.MIN_REMEMBERED_SECONDS:
                assert verdict is NEW
        elif first >= now - 14 * DAY:
            # With another time than before it may be newer than what is forgotten.
            allowed = {PRINTED}
            if self._is_bounded:
                allowed |= {MAYBE} if one.issued_at <= first else {MAYBE, NEW}
            assert verdict in allowed


def _run(steps: list[tuple[str, object]], directory: Path, *, is_bounded: bool) -> None:
    model = _Model(is_bounded=is_bounded)
    now = NOW
    store = ReplayMemory(directory)
    store._connection.execute("PRAGMA synchronous = OFF")
    try:
        for what, value in steps:
            if what == "print":
                assert isinstance(value, list)
                group = {}
                for name, number, lag, is_listed in value:
                    one = entry(number, now + lag, name)
                    verdict = store.verdict(one)
                    model.check(verdict, one, now)
                    if verdict is NEW:
                        group[one.sender, one.identifier] = Printed(one, name.partition(".")[2], b"key", is_listed)
                store.remember(list(group.values()), now)
                model.printed.update({key: message.entry.issued_at or 0 for key, message in group.items()})
            elif what == "wait":
                assert isinstance(value, int)
                now += value
            elif what == "tidy":
                assert isinstance(value, int)
                store._portion = value
                store.tidy(now)
            else:
                store.close()
                store = ReplayMemory(directory)
                store._connection.execute("PRAGMA synchronous = OFF")
            for (name, identifier), issued_at in model.printed.items():
                one = ReplayEntry(name, identifier, issued_at)
                model.check(store.verdict(one), one, now)
        tidy(store, now)
        for (name, identifier), issued_at in model.printed.items():
            one = ReplayEntry(name, identifier, issued_at)
            model.check(store.verdict(one), one, now)
        _check_bounds(store, now)
    finally:
        store.close()


def _check_bounds(store: ReplayMemory, now: int) -> None:
    connection = store._connection
    old = f"slot * {DAY} + second <= {now - rules.MIN_REMEMBERED_SECONDS}"
    counts = {
        owner: (number, number_old)
        for owner, number, number_old in connection.execute(
            f"SELECT owner, count(*), sum({old}) FROM bound GROUP BY owner"
        )
    }
    for owner, (number, number_old) in counts.items():
        bound = rules.MAX_REMEMBERED_OF_A_NAME if owner else rules.MAX_REMEMBERED_OF_UNPROVEN
        assert number <= bound or not number_old
    total = sum(number for number, _ in counts.values())
    assert total <= rules.MAX_REMEMBERED or not any(number_old for _, number_old in counts.values())
    rows = "SELECT count(*) FROM sender WHERE apart_since IS "
    assert connection.execute(rows + "NULL").fetchone()[0] <= rules.MAX_UNPROVEN_NAMES
    assert connection.execute(rows + "NOT NULL").fetchone()[0] <= rules.MAX_PROVEN_NAMES
    books = store._kept_books
    assert books is not None
    assert books.bound.total() == total
    assert books.pooled_names == connection.execute(rows + "NULL").fetchone()[0]
    assert books.apart_names.total() == connection.execute(rows + "NOT NULL").fetchone()[0]


def test_an_empty_fact_is_told_from_one_that_was_never_kept(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as memory:
        assert memory.get_fact("gone since") is None
        memory.set_fact("gone since", "")
    with ReplayMemory(tmp_path) as memory:
        assert memory.get_fact("gone since") == ""
