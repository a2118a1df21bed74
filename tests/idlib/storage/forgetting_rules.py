"""What the replay memory forgets above its limits, and what it never forgets: for a fixture `store` of each engine."""

import pytest

from idlib.storage import Tidied, rules
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
    Store,
    entry,
    known,
    number_of_rows,
    number_remembered,
    prove,
    remember,
    tidy,
    verdicts,
)


@pytest.mark.usefixtures("small")
def test_above_its_limit_the_oldest_messages_of_a_name_are_refused_but_never_a_new_one(store: Store) -> None:
    prove(store, BOB)
    prove(store, ALICE)
    entries = [entry(number, NOW + number * HOUR) for number in range(40)]
    for one in entries:
        now = one.issued_at or 0
        assert store.verdict(one) is NEW
        remember(store, [one], now)
        assert set(tidy(store, now).raised) <= {ALICE}
        assert store.verdict(one) is PRINTED
    found = verdicts(store, entries)
    assert found == sorted(found, key=[MAYBE, PRINTED].index)
    assert 14 <= found.count(PRINTED) <= 15
    assert store.verdict(entry("old", NOW + HOUR)) is MAYBE
    assert store.verdict(entry("old", NOW + HOUR, BOB)) is NEW
    assert store.verdict(entry("old", NOW + HOUR, "carol.example")) is NEW


@pytest.mark.usefixtures("small")
def test_the_watermark_of_a_name_is_dropped_after_14_days(store: Store) -> None:
    prove(store, ALICE)
    remember(store, [entry(number, NOW - 2 * HOUR) for number in range(20)])
    assert tidy(store).raised == (ALICE,)
    standing = known(store, ALICE)
    assert NOW - 2 * HOUR <= standing.watermark < NOW - 2 * HOUR + MINUTE
    tidy(store, standing.watermark + 14 * DAY + 5 * MINUTE + 1)
    assert known(store, ALICE).watermark == -1


@pytest.mark.usefixtures("small")
def test_a_message_issued_in_the_last_15_minutes_is_never_forgotten(store: Store) -> None:
    prove(store, ALICE)
    entries = [entry(number, NOW - number % 14 * MINUTE) for number in range(100)]
    entries += [entry(number, NOW + 299, BOB) for number in range(100)]
    remember(store, entries)
    # Only the messages that proved Alice's name are older.
    assert tidy(store) == Tidied(more=False, pool_raised=True)
    assert verdicts(store, entries) == [PRINTED] * 200
    assert store.verdict(entry("new", NOW - 14 * MINUTE)) is NEW
    tidy(store, NOW + HOUR)
    assert number_remembered(store) <= 40


@pytest.mark.usefixtures("small")
def test_messages_of_strangers_only_displace_messages_of_strangers(store: Store) -> None:
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
def test_strangers_do_not_displace_the_first_message_of_a_listed_name(store: Store) -> None:
    remember(store, [entry("first", NOW - DAY)], NOW - DAY, is_listed=True)
    for number in range(60):
        remember(store, [entry("x", NOW - DAY + number * MINUTE, f"{number}.attack.example")], NOW)
    assert tidy(store).pool_raised
    assert store.verdict(entry("first", NOW - DAY)) is PRINTED
    assert store.standing(ALICE) is not None
    assert store.verdict(entry("delayed", NOW - DAY + HOUR)) is NEW


@pytest.mark.usefixtures("small")
def test_above_the_total_limit_the_pool_is_trimmed_first_and_then_the_largest_name(store: Store) -> None:
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
def test_the_oldest_unbound_messages_of_strangers_are_forgotten_first_and_counted(store: Store) -> None:
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
def test_unproven_names_are_limited_but_their_messages_stay_known(store: Store) -> None:
    prove(store, ALICE)
    entries = [entry("x", NOW - HOUR, f"{number}.attack.example") for number in range(15)]
    for number, one in enumerate(entries):
        remember(store, [one], NOW + number)
    tidy(store)
    assert [store.standing(one.sender) is None for one in entries] == [True] * 5 + [False] * 10
    assert verdicts(store, entries) == [PRINTED] * 15
    assert store.standing(ALICE) is not None


@pytest.mark.usefixtures("small")
def test_above_the_limit_of_proven_names_the_largest_zone_loses_its_least_recent_names(store: Store) -> None:
    prove(store, ALICE, NOW - 10 * DAY)
    names = [f"{number}.attack.example" for number in range(8)]
    for number, name in enumerate(names):
        prove(store, name, NOW + number * HOUR, "attack.example")
    now = NOW + 8 * HOUR
    tidy(store, now)
    kept = [(standing := store.standing(name)) is not None and standing.is_proven for name in names]
    assert kept == [False] * 3 + [True] * 5
    assert known(store, ALICE).is_proven
    for number, name in enumerate(names):
        at = NOW + number * HOUR
        assert store.verdict(entry(f"proof 2 {at}", at - 1, name)) is PRINTED
    prove(store, names[0], now + 2 * HOUR, "attack.example")
    assert store.verdict(entry(f"proof 0 {NOW}", NOW - 2 * HOUR, names[0])) is PRINTED


@pytest.mark.usefixtures("small")
def test_a_name_with_many_messages_moves_into_the_pool_in_portions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_PROVEN_NAMES", 1)
    for name in ("MAX_REMEMBERED_OF_A_NAME", "MAX_REMEMBERED_OF_UNPROVEN", "MAX_REMEMBERED"):
        monkeypatch.setattr(rules, name, 10_000)
    prove(store, ALICE)
    entries = [entry(number, NOW - number * HOUR) for number in range(300)]
    remember(store, entries)
    prove(store, BOB, NOW + 2 * HOUR)
    more = True
    while more:
        store._portion = 50
        more = store.tidy(NOW + 2 * HOUR).more
        assert set(verdicts(store, entries)) == {PRINTED}
    assert not known(store, ALICE).is_proven


def test_forgetting_keeps_up_in_portions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED_OF_A_NAME", 20_000)
    prove(store, ALICE)
    remember(store, [entry(number, NOW - 10 * DAY + number * 10) for number in range(60_000)])
    portions = 1
    # Between two portions, other threads can use the store.
    while store.tidy(NOW).more:
        portions += 1
    assert portions > 3
    assert number_remembered(store) <= 20_000
    remember(store, [entry(number, NOW + 20 * DAY) for number in range(10)], NOW + 20 * DAY)
    tidy(store, NOW + 20 * DAY)
    assert number_remembered(store) == 10


def test_pruning_by_a_wrong_clock_refuses_no_message_issued_after_the_pruned_ones(
    store: Store,
) -> None:
    # At one o'clock, so that the day has many hours left.
    now = NOW // DAY * DAY + HOUR
    remember(store, [entry(number, now - 60 + number) for number in range(10)])
    tidy(store, now + 20 * 365 * DAY)
    assert store.verdict(entry(9, now - 51)) is MAYBE
    assert store.verdict(entry("new", now - 50)) is NEW


def test_names_are_dropped_in_small_portions(store: Store) -> None:
    remember(store, [entry(0, NOW, f"{number}.example") for number in range(1000)])
    left, portions = 1000, 0
    more = True
    while more:
        store._portion = 1000
        more = store.tidy(NOW + 17 * DAY).more
        names = number_of_rows(store, "sender")
        assert names >= left - 1000 // 16
        portions += names < left
        left = names
    assert (left, portions >= 16) == (0, True)


def test_pruned_messages_are_refused_after_each_portion(store: Store) -> None:
    entries = [entry(number, NOW - number * 7) for number in range(1000)]
    remember(store, entries)
    more = True
    while more:
        more = store.tidy(NOW + 20 * DAY).more
        assert NEW not in set(verdicts(store, entries))
    assert store.verdict(entry("new", NOW + 1)) is NEW
