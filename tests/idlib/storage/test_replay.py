"""What the replay memory knows after a restart, a crash or an error, and in comparison with a model."""

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.storage import Printed, Remembered, ReplayEntry, rules
from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.replaying import (
    ALICE,
    BOB,
    DAY,
    HOUR,
    MAYBE,
    MINUTE,
    NEW,
    NOW,
    PRINTED,
    entry,
    number_remembered,
    prove,
    remember,
    tidy,
)


def test_a_fact_keeps_its_first_value_until_it_is_set(tmp_path: Path) -> None:
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
def test_a_printed_message_is_known_after_a_restart_and_other_messages_are_new(
    issued_at: int | None, tmp_path: Path
) -> None:
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry("one", issued_at)) is NEW
        remember(store, [entry("one", issued_at)])
        assert store.verdict(entry("one", issued_at)) is PRINTED
    with ReplayMemory(tmp_path) as store:
        tidy(store)
        assert store.verdict(entry("one", issued_at)) is PRINTED
        assert store.verdict(entry("two", issued_at)) is NEW
        assert store.verdict(entry("one", issued_at, BOB)) is NEW


def test_the_same_identifier_with_another_time_is_known(store: ReplayMemory) -> None:
    remember(store, [entry("one", NOW - 13 * DAY)])
    assert store.verdict(entry("one", NOW)) is PRINTED
    prove(store, ALICE, NOW + DAY)
    assert store.verdict(entry("one", NOW + DAY)) is PRINTED


def test_a_bound_message_is_known_for_14_days_and_5_minutes_and_never_becomes_new(store: ReplayMemory) -> None:
    remember(store, [entry("one")])
    tidy(store, NOW + 14 * DAY + 5 * MINUTE)
    assert store.verdict(entry("one")) is PRINTED
    tidy(store, NOW + 15 * DAY + 5 * MINUTE)
    assert number_remembered(store) == 0
    assert store.verdict(entry("one")) is MAYBE
    assert store.verdict(entry("new", NOW + 15 * DAY)) is NEW


def test_an_unbound_message_is_known_for_a_year(store: ReplayMemory) -> None:
    remember(store, [entry("one", None)])
    assert tidy(store, NOW + 365 * DAY).forgotten_unbound_early == 0
    assert store.verdict(entry("one", None)) is PRINTED
    assert tidy(store, NOW + 373 * DAY).forgotten_unbound_early == 0
    assert store.verdict(entry("one", None)) is NEW


def test_the_standing_of_a_name_grows_and_is_kept(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        assert store.standing(ALICE) is None
        remember(store, [entry("one"), entry("two")])
        remember(store, [entry("three")], NOW + HOUR + 1)
    with ReplayMemory(tmp_path) as store:
        standing = store.standing(ALICE)
        assert standing is not None
        assert (standing.printed, standing.first_printed_at, standing.last_printed_at) == (3, NOW, NOW + HOUR + 1)
        assert (standing.zone, standing.key, standing.proven_at) == ("example", b"key", NOW + HOUR + 1)


def test_a_proven_name_is_known_for_90_days_and_another_for_16(store: ReplayMemory) -> None:
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


def test_a_floor_refuses_messages_up_to_its_time_and_raising_it_never_lowers_it(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        store.raise_floor(NOW)
        store.raise_floor(NOW - 1)
    with ReplayMemory(tmp_path) as store:
        assert store.verdict(entry("one", NOW)) is MAYBE
        assert store.verdict(entry("one", NOW + 1)) is NEW
        assert store.verdict(entry("one", None)) is NEW


def test_a_failed_change_changes_nothing(store: ReplayMemory) -> None:
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


def test_a_transaction_survives_kill_9(tmp_path: Path) -> None:
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


def test_several_threads_use_the_memory_at_once(store: ReplayMemory) -> None:
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
def test_within_the_limits_exactly_the_printed_messages_are_known(
    steps: list[tuple[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _run(steps, tmp_path_factory.mktemp("replay"), is_bounded=False)


class _Model:
    """A memory that forgets nothing, and the verdicts that it allows."""

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
            # If its time differs from the first one, it may be newer than all forgotten messages.
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
    senders = store._kept_senders
    assert senders is not None
    assert senders.bound.total() == total
    assert senders.pooled_names == connection.execute(rows + "NULL").fetchone()[0]
    assert senders.apart_names.total() == connection.execute(rows + "NOT NULL").fetchone()[0]


def test_an_empty_fact_differs_from_a_missing_one(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as memory:
        assert memory.get_fact("gone since") is None
        memory.set_fact("gone since", "")
    with ReplayMemory(tmp_path) as memory:
        assert memory.get_fact("gone since") == ""
