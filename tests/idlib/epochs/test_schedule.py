"""When epoch keys are created, published and destroyed."""

import dataclasses
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.epochs.schedule import (
    LEAD_SECONDS,
    MAX_LIFE_SECONDS,
    MAX_LIVING_KEYS,
    MIN_RETENTION_SECONDS,
    Half,
    Lifetimes,
    Now,
    current,
    overdue,
    period,
)
from idlib.errors import ConfigurationError

HOUR: Final = 3600
DAY: Final = 24 * HOUR
T: Final = 1_800_000_000
DEFAULT: Final = Lifetimes(DAY, 8 * DAY)
ALICE: Final = bytes(32)
NEW_KEY: Final = bytes([1]) * 32


def created(at: int, elapsed: float = 0.0, lifetimes: Lifetimes = DEFAULT, signer: bytes = ALICE) -> Half:
    start, until = period(at, lifetimes)
    return Half(f"key {at}", start, until, elapsed, signer)


HALF: Final = created(T)


def test_a_key_starts_an_hour_before_its_creation_and_lives_for_length_and_retention() -> None:
    assert period(T, DEFAULT) == (T - HOUR, T + 9 * DAY)
    assert HALF.created_at == T


@pytest.mark.parametrize(
    ("clock", "elapsed", "expected"),
    [
        (T + 9 * DAY - 1, 0.0, ()),
        (T + 9 * DAY, 0.0, (HALF,)),
        (None, 9 * DAY - 1, ()),
        (None, 9 * DAY, (HALF,)),
        # The clock was set back.
        (T - 400 * DAY, 9 * DAY, (HALF,)),
        (T - 400 * DAY, 9 * DAY - 1, ()),
        # The device was off for 20 days.
        (T + 20 * DAY, 60.0, (HALF,)),
        # It was off, and its clock is not set.
        (None, 60.0, ()),
    ],
)
def test_a_half_is_destroyed_by_a_trusted_clock_or_by_the_running_time(
    clock: int | None, elapsed: float, expected: tuple[Half, ...]
) -> None:
    assert overdue([HALF], Now(clock, elapsed)) == expected


def test_a_power_failure_that_loses_some_of_the_running_time_destroys_nothing() -> None:
    half = created(T, elapsed=100.5 * DAY)
    assert not overdue([half], Now(None, 100 * DAY))
    assert not overdue([half], Now(T, 5.0))


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (T - HOUR - 1, None),
        (T - HOUR, HALF),
        (T, HALF),
        (T + DAY - 1, HALF),
        (T + DAY, None),
        (None, None),
    ],
)
def test_a_key_is_in_use_for_its_length(clock: int | None, expected: Half | None) -> None:
    assert current([HALF], Now(clock, 0.0), DEFAULT, ALICE) == expected


@pytest.mark.parametrize(
    ("lifetimes", "in_use_seconds"),
    [
        (Lifetimes(90 * DAY, 8 * DAY), DAY),
        (Lifetimes(7 * DAY, 8 * DAY), DAY),
        (Lifetimes(HOUR, 8 * DAY), HOUR),
        (Lifetimes(DAY, 4 * DAY), DAY),
        (Lifetimes(7 * DAY, 6 * DAY), 3 * DAY),
        (Lifetimes(DAY, 9 * DAY), 0),
    ],
)
def test_a_key_is_replaced_in_time_if_the_settings_have_changed_since(
    lifetimes: Lifetimes, in_use_seconds: int
) -> None:
    assert current([HALF], Now(T + in_use_seconds, 0.0), lifetimes, ALICE) is None
    # A key can be used from an hour before its creation on.
    assert current([HALF], Now(T + in_use_seconds - 1, 0.0), lifetimes, ALICE) == HALF


def test_a_new_identity_key_starts_a_new_epoch() -> None:
    assert current([HALF], Now(T + 5, 5.0), DEFAULT, NEW_KEY) is None
    fresh = created(T + 5, 5.0, signer=NEW_KEY)
    assert current([HALF, fresh], Now(T + 5, 5.0), DEFAULT, NEW_KEY) == fresh


def test_the_newest_of_two_is_in_use() -> None:
    later = created(T + HOUR)
    for halves in ([HALF, later], [later, HALF]):
        assert current(halves, Now(T + 2 * HOUR, 0.0), DEFAULT, ALICE) == later


def test_a_key_that_was_created_by_a_clock_that_was_ahead_is_not_in_use_until_its_time() -> None:
    ahead = created(T + 10 * DAY)
    assert current([ahead], Now(T, 0.0), DEFAULT, ALICE) is None
    assert not overdue([ahead], Now(T, 0.0))
    assert overdue([ahead], Now(T + 9 * DAY, 9 * DAY))


@pytest.mark.parametrize(
    ("length", "retention", "said"),
    [
        (DAY, MIN_RETENTION_SECONDS - 1, "EPOCH_RETENTION is 7199 s"),
        (MAX_LIFE_SECONDS - DAY, DAY + 1, "together"),
        (60, 8 * DAY, "more than 256 epoch keys .* set EPOCH_LENGTH to 2722s or more"),
        (2721, 8 * DAY, "more than 256 epoch keys"),
    ],
)
def test_lifetimes_that_would_not_work_are_rejected(length: int, retention: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Lifetimes(length, retention)


@pytest.mark.parametrize(
    ("length", "retention"),
    [(DAY, 8 * DAY), (HOUR, 3 * HOUR), (7 * DAY, 8 * DAY), (365 * DAY, 8 * DAY), (29, MIN_RETENTION_SECONDS)],
)
def test_the_lifetimes_of_the_documents_are_accepted(length: int, retention: int) -> None:
    assert Lifetimes(length, retention).life == length + retention


LIFETIMES: Final = st.builds(
    lambda retention, part: Lifetimes(max(1, retention // part), retention),
    st.integers(MIN_RETENTION_SECONDS, 30 * DAY),
    st.integers(1, MAX_LIVING_KEYS - 16),
)
# How long until the next look, how far the clock moves in addition, and whether it is trusted then.
STEPS: Final = st.lists(
    st.tuples(st.integers(1, 20 * DAY), st.sampled_from([0, 0, 0, -DAY, DAY, 40 * DAY]), st.booleans()), max_size=40
)


@given(LIFETIMES, STEPS)
def test_whatever_the_clock_does(lifetimes: Lifetimes, steps: list[tuple[int, int, bool]]) -> None:
    clock, elapsed = T, 0
    halves: list[Half] = []
    for wait, jump, is_trusted in steps:
        clock, elapsed = clock + wait + jump, elapsed + wait
        now = Now(clock if is_trusted else None, elapsed)
        before = list(halves)
        gone = overdue(halves, now)
        halves = [half for half in halves if half not in gone]
        for half in gone:
            assert is_trusted or elapsed - half.born >= lifetimes.life, "a clock that is not trusted destroyed it"
        for half in before:
            if elapsed - half.born >= lifetimes.life:
                assert half in gone, "it lives longer than it should, whatever the clock showed"
            if is_trusted and clock >= half.until:
                assert half in gone
        in_use = current(halves, now, lifetimes, ALICE)
        if is_trusted and in_use is None:
            in_use = dataclasses.replace(created(clock, elapsed, lifetimes), key_id=f"{elapsed}")
            halves.append(in_use)
            assert current(halves, now, lifetimes, ALICE) == in_use, "the next look would create another"
            assert not overdue([in_use], now)
        if in_use is not None:
            assert in_use.until - clock > lifetimes.retention, "what is sent now can be read for the retention"
            assert in_use.start == in_use.created_at - LEAD_SECONDS


@pytest.mark.parametrize(
    "lifetimes", [DEFAULT, Lifetimes(HOUR, 3 * HOUR), Lifetimes(29, MIN_RETENTION_SECONDS)], ids=["1d", "1h", "29s"]
)
def test_while_the_clock_is_right_the_number_of_halves_is_limited(lifetimes: Lifetimes) -> None:
    halves: list[Half] = []
    most = 0
    for number in range(MAX_LIVING_KEYS + 50):
        now = Now(T + number * lifetimes.length, number * lifetimes.length)
        assert now.clock is not None
        gone = overdue(halves, now)
        halves = [half for half in halves if half not in gone]
        halves.append(created(now.clock, now.elapsed, lifetimes))
        most = max(most, len(halves))
    assert most == -(-lifetimes.life // lifetimes.length) <= MAX_LIVING_KEYS


def test_the_length_that_the_error_names_is_accepted() -> None:
    assert Lifetimes(2722, 8 * DAY).length == 2722
