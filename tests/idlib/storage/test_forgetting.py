"""What the replay memory forgets above its limits, and what it never forgets."""

import shutil
from pathlib import Path

import pytest

from idlib.storage import Tidied, rules
from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.forgetting_rules import *  # noqa: F403  # tests
from tests.idlib.storage.replaying import (
    ALICE,
    DAY,
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


def test_nothing_is_refused_in_a_year_of_a_message_a_second_from_one_sender(
    store: ReplayMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Simulate every 4000th message, with every limit divided by 4000.
    for name in ("MAX_REMEMBERED_OF_A_NAME", "MAX_REMEMBERED_OF_UNPROVEN", "MAX_REMEMBERED"):
        monkeypatch.setattr(rules, name, getattr(rules, name) // 4000)
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
            size = number_of_pages(store)
    assert number_remembered(store) < 1_500_000 / 4000
    # Freed pages are reused.
    assert number_of_pages(store) <= size * 1.2


def number_of_pages(store: ReplayMemory) -> int:
    return int(store._connection.execute("PRAGMA page_count").fetchone()[0])


def test_entries_are_counted_correctly_after_a_restart_while_more_are_added(
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
            # Some of these have keys before the last counted one, and some after it.
            remember(store, [entry(f"{number} {one}", NOW - DAY + one * 50) for one in range(100)])
        tidy(store)
        assert number_remembered(store) == store._kept_senders.bound.total() if store._kept_senders else False
        assert 900 < number_remembered(store) <= 1000


def test_a_copy_of_the_files_made_while_forgetting_makes_no_printed_message_new(
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


@pytest.mark.parametrize("senders", [1, 50])
def test_pruning_that_was_interrupted_resumes_and_forgets_exactly_what_has_expired(
    senders: int, tmp_path: Path
) -> None:
    names = [f"{number}.example" for number in range(senders)]
    today = NOW // DAY
    # The entries of a day are kept until the last of them has expired.
    now = (today - 10) * DAY + rules.REPLAY_SECONDS
    expired, kept = (
        [entry(f"{day} {number}", day * DAY + number, names[number % senders]) for number in range(3000)]
        for day in (today - 11, today - 10)
    )
    directory = tmp_path / "0"
    with ReplayMemory(directory) as store:
        for name in names:
            prove(store, name, today * DAY)
        others = number_remembered(store)
        remember(store, [*expired, *kept])
    for restart in range(1, 10):
        with ReplayMemory(directory) as store:
            left = number_remembered(store)
            for _ in range(8):
                store._portion = 100
                store.tidy(now)
                assert left - 100 <= number_remembered(store) <= left
                left = number_remembered(store)
            assert {store.verdict(one) for one in kept} == {PRINTED}
            assert NEW not in {store.verdict(one) for one in expired}
            # As if the process had been killed now.
            shutil.copytree(directory, directory := tmp_path / str(restart))
    with ReplayMemory(directory) as store:
        assert tidy(store, now) == Tidied(more=False)
        assert number_remembered(store) == others + len(kept)
        assert {store.verdict(one) for one in kept} == {PRINTED}
        assert {store.verdict(one) for one in expired} == {MAYBE}
