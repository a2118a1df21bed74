"""What the replay memory does is compared with a model that forgets nothing, for each engine."""

from collections.abc import Callable

from hypothesis import strategies as st

from idlib.storage import Printed, Remembered, ReplayEntry, rules
from tests.idlib.storage.replaying import (
    DAY,
    HOUR,
    MAYBE,
    MINUTE,
    NEW,
    NOW,
    PRINTED,
    Store,
    entry,
    number_of_rows,
    query,
    tidy,
    verdicts,
)

Step = tuple[str, object]

_names = st.sampled_from(["a.example", "b.example", "c.example", "d.attack", "e.attack", "f.attack", "g.attack"])


steps = st.one_of(
    st.tuples(
        st.just("print"),
        st.lists(st.tuples(_names, st.integers(0, 60), st.integers(-13 * DAY, 300), st.booleans()), max_size=12),
    ),
    st.tuples(st.just("wait"), st.sampled_from([1, MINUTE, HOUR, 2 * HOUR, DAY, 5 * DAY, 17 * DAY])),
    st.tuples(st.just("tidy"), st.integers(1, 30)),
    st.tuples(st.just("restart"), st.none()),
)


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

    def check_all(self, store: Store, now: int) -> None:
        entries = [ReplayEntry(*key, issued_at) for key, issued_at in self.printed.items()]
        for one, verdict in zip(entries, verdicts(store, entries), strict=True):
            self.check(verdict, one, now)


def run_steps(steps: list[Step], restart: Callable[[], Store], *, is_bounded: bool) -> None:
    """Carry out steps, and check after each what is known of the messages.

    Args:
        steps: The steps.
        restart: Opens the memory, after closing it if it is open.
        is_bounded: Whether so many messages are printed that some are forgotten early.
    """
    model = _Model(is_bounded=is_bounded)
    now = NOW
    store = restart()
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
            store = restart()
        model.check_all(store, now)
    # What is printed after a pass has begun may be counted only in the next one.
    tidy(store, now)
    tidy(store, now)
    model.check_all(store, now)
    _check_bounds(store, now)


def _check_bounds(store: Store, now: int) -> None:
    old = f"CASE WHEN slot * {DAY} + second <= {now - rules.MIN_REMEMBERED_SECONDS} THEN 1 ELSE 0 END"
    counts = {
        owner: (number, number_old)
        for owner, number, number_old in query(store, f"SELECT owner, count(*), sum({old}) FROM bound GROUP BY owner")
    }
    for owner, (number, number_old) in counts.items():
        bound = rules.MAX_REMEMBERED_OF_A_NAME if owner else rules.MAX_REMEMBERED_OF_UNPROVEN
        assert number <= bound or not number_old
    total = sum(number for number, _ in counts.values())
    assert total <= rules.MAX_REMEMBERED or not any(number_old for _, number_old in counts.values())
    assert number_of_rows(store, "sender WHERE apart_since IS NULL") <= rules.MAX_UNPROVEN_NAMES
    assert number_of_rows(store, "sender WHERE apart_since IS NOT NULL") <= rules.MAX_PROVEN_NAMES
