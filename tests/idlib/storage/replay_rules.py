"""What the replay memory knows: for a fixture `store` of each engine."""

from tests.idlib.storage.replaying import (
    ALICE,
    BOB,
    DAY,
    MAYBE,
    MINUTE,
    NEW,
    NOW,
    PRINTED,
    Store,
    entry,
    number_remembered,
    prove,
    remember,
    tidy,
)
from tests.idlib.storage.threads import at_once


def test_the_same_identifier_with_another_time_is_known(store: Store) -> None:
    remember(store, [entry("one", NOW - 13 * DAY)])
    assert store.verdict(entry("one", NOW)) is PRINTED
    prove(store, ALICE, NOW + DAY)
    assert store.verdict(entry("one", NOW + DAY)) is PRINTED


def test_a_bound_message_is_known_for_14_days_and_5_minutes_and_never_becomes_new(store: Store) -> None:
    remember(store, [entry("one")])
    tidy(store, NOW + 14 * DAY + 5 * MINUTE)
    assert store.verdict(entry("one")) is PRINTED
    tidy(store, NOW + 15 * DAY + 5 * MINUTE)
    assert number_remembered(store) == 0
    assert store.verdict(entry("one")) is MAYBE
    assert store.verdict(entry("new", NOW + 15 * DAY)) is NEW


def test_an_unbound_message_is_known_for_a_year(store: Store) -> None:
    remember(store, [entry("one", None)])
    assert tidy(store, NOW + 365 * DAY).forgotten_unbound_early == 0
    assert store.verdict(entry("one", None)) is PRINTED
    assert tidy(store, NOW + 373 * DAY).forgotten_unbound_early == 0
    assert store.verdict(entry("one", None)) is NEW


def test_a_proven_name_is_known_for_90_days_and_another_for_16(store: Store) -> None:
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


def test_several_threads_use_the_memory_at_once(store: Store) -> None:
    def work(name: str) -> None:
        for number in range(50):
            one = entry(number, NOW, name)
            assert store.verdict(one) is NEW
            remember(store, [one])
            store.tidy(NOW)
            assert store.verdict(one) is PRINTED

    at_once(work, (ALICE, BOB, "carol.example"))
