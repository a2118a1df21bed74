"""What the replay memory knows after a restart, a crash or an error, and in comparison with a model."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import StoreError
from idlib.storage import ReplayEntry
from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.replay_model import Step, run_steps, steps
from tests.idlib.storage.replay_rules import *  # noqa: F403  # tests
from tests.idlib.storage.replaying import (
    ALICE,
    BOB,
    HOUR,
    MAYBE,
    NEW,
    NOW,
    PRINTED,
    entry,
    known,
    number_of_rows,
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


def test_the_standing_of_a_name_grows_and_is_kept(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as store:
        assert store.standing(ALICE) is None
        remember(store, [entry("one"), entry("two")])
        remember(store, [entry("three")], NOW + HOUR + 1)
    with ReplayMemory(tmp_path) as store:
        standing = known(store, ALICE)
        assert (standing.printed, standing.first_printed_at, standing.last_printed_at) == (3, NOW, NOW + HOUR + 1)
        assert (standing.zone, standing.key, standing.proven_at) == ("example", b"key", NOW + HOUR + 1)


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


@given(steps=st.lists(steps, max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("small")
def test_nothing_printed_becomes_new_and_nothing_new_is_refused(
    steps: list[Step], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _run(steps, tmp_path_factory.mktemp("replay"), is_bounded=True)


@given(steps=st.lists(steps, max_size=40))
@settings(deadline=None)
def test_within_the_limits_exactly_the_printed_messages_are_known(
    steps: list[Step], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _run(steps, tmp_path_factory.mktemp("replay"), is_bounded=False)


def _run(steps: list[Step], directory: Path, *, is_bounded: bool) -> None:
    stores: list[ReplayMemory] = []

    def restart() -> ReplayMemory:
        for store in stores:
            store.close()
        stores[:] = [ReplayMemory(directory)]
        stores[0]._connection.execute("PRAGMA synchronous = OFF")
        return stores[0]

    try:
        run_steps(steps, restart, is_bounded=is_bounded)
        senders = stores[0]._kept_senders
        assert senders is not None
        assert senders.bound.total() == number_remembered(stores[0])
        assert senders.pooled_names == number_of_rows(stores[0], "sender WHERE apart_since IS NULL")
        assert senders.apart_names.total() == number_of_rows(stores[0], "sender WHERE apart_since IS NOT NULL")
    finally:
        stores[0].close()


def test_an_empty_fact_differs_from_a_missing_one(tmp_path: Path) -> None:
    with ReplayMemory(tmp_path) as memory:
        assert memory.get_fact("gone since") is None
        memory.set_fact("gone since", "")
    with ReplayMemory(tmp_path) as memory:
        assert memory.get_fact("gone since") == ""
