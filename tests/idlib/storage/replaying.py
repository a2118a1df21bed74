"""Constants and helpers for the tests of the replay memory."""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import pytest

from idlib.storage import Printed, Remembered, ReplayEntry, ReplayStore, Standing, Tidied, rules
from idlib.storage.postgresql import printed
from idlib.storage.postgresql.replay import PostgresReplay
from idlib.storage.replay import ReplayMemory

NOW: Final = 1_800_000_000
MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 24 * HOUR
ALICE: Final = "alice.example"
BOB: Final = "bob.example"
Store = ReplayMemory | PostgresReplay
NEW, PRINTED, MAYBE = Remembered.NEW, Remembered.PRINTED, Remembered.MAYBE_FORGOTTEN


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide every limit by about 100,000."""
    for name, value in {
        "MAX_REMEMBERED_OF_A_NAME": 15,
        "MAX_REMEMBERED_OF_UNPROVEN": 20,
        "MAX_REMEMBERED": 40,
        "MAX_REMEMBERED_UNBOUND": 10,
        "MAX_UNPROVEN_NAMES": 10,
        "MAX_PROVEN_NAMES": 6,
    }.items():
        monkeypatch.setattr(rules, name, value)


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
    assert known(store, sender).is_proven


def known(store: ReplayStore, sender: str) -> Standing:
    """Return what is known about a name of which something is."""
    standing = store.standing(sender)
    assert standing is not None
    return standing


def tidy(store: ReplayStore, now: int = NOW) -> Tidied:
    """Tidy until nothing is left to do, and return the combined result."""
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


def verdicts(store: Store, entries: Iterable[ReplayEntry]) -> list[Remembered]:
    if isinstance(store, ReplayMemory):
        return [store.verdict(one) for one in entries]
    # All in one statement, as for a group of messages.
    with store._database.separately() as statements:
        return printed.verdicts(statements, list(entries))


def query(store: Store, statement: str) -> list[tuple[Any, ...]]:
    if isinstance(store, ReplayMemory):
        return store._connection.execute(statement).fetchall()
    with store._database.separately() as statements:
        return statements.execute(statement).fetchall()


def number_of_rows(store: Store, table: str) -> int:
    return int(query(store, f"SELECT count(*) FROM {table}")[0][0])


def number_remembered(store: Store) -> int:
    return number_of_rows(store, "bound")
