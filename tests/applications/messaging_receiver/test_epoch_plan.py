"""Keys for weeks ahead: each takes over from the one before, also if only some of them exist."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.epochs.halves import Halves
from idlib.epochs.record import MAX_RECORDS
from idlib.epochs.schedule import Lifetimes, Now, current
from idlib.errors import ConfigurationError, StoreError
from idlib.names import IdentityName
from messaging_receiver.epoch_plan import WEEK_SECONDS, keys_ahead, number_of_keys

NAME = IdentityName("alice._device.example.test")
DAY = 86_400
WEEKLY = Lifetimes(WEEK_SECONDS, 8 * DAY)
SIGNER, OTHER = b"s" * 32, b"o" * 32
NOW = Now(1_900_000_000, 1000.0)


def ahead(directory: Path, now: Now = NOW, number: int = 4, signer: bytes = SIGNER) -> list[str]:
    return [one.half.key_id for one in keys_ahead(Halves(directory, NAME), now, WEEKLY, signer, number)]


def later(seconds: float) -> Now:
    assert NOW.clock is not None
    return Now(int(NOW.clock + seconds), NOW.elapsed + seconds)


def test_each_key_takes_over_when_the_one_before_has_been_in_use(tmp_path: Path) -> None:
    kept = keys_ahead(Halves(tmp_path, NAME), NOW, WEEKLY, SIGNER, 4)
    assert [one.half.created_at for one in kept] == [1_900_000_000 + number * WEEK_SECONDS for number in range(4)]
    for one in kept:
        assert one.half.until == one.half.created_at + WEEKLY.life
        # By running time, it lives as long as one that is created then.
        assert one.half.born == NOW.elapsed + one.half.created_at - 1_900_000_000
    halves = [one.half for one in kept]
    for number in range(4):
        half = current(halves, later(number * WEEK_SECONDS + DAY), WEEKLY, SIGNER)
        assert half == halves[number]


def test_a_second_call_returns_the_same_keys_and_a_later_one_adds_one(tmp_path: Path) -> None:
    first = ahead(tmp_path)
    assert ahead(tmp_path) == first
    assert ahead(tmp_path, later(DAY)) == first
    added = ahead(tmp_path, later(WEEK_SECONDS + DAY))
    assert (added[:3], len(set(added) - set(first))) == (first[1:], 1)


def test_another_identity_key_gets_keys_of_its_own(tmp_path: Path) -> None:
    assert set(ahead(tmp_path)).isdisjoint(ahead(tmp_path, signer=OTHER))


@pytest.mark.parametrize(
    "before", [Lifetimes(DAY, 8 * DAY), Lifetimes(WEEK_SECONDS, 7 * DAY), Lifetimes(6 * DAY, 2 * DAY)]
)
def test_keys_that_were_created_with_other_settings_are_replaced_in_time(tmp_path: Path, before: Lifetimes) -> None:
    halves = Halves(tmp_path, NAME)
    keys_ahead(halves, NOW, before, SIGNER, 3)
    kept = [one.half for one in keys_ahead(halves, NOW, WEEKLY, SIGNER, 4)]
    assert len({half.key_id for half in kept}) == len(kept)
    for half, following in pairwise(kept):
        assert half.created_at < following.created_at < half.until - WEEKLY.retention / 2


def test_what_was_interrupted_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, calls = Halves.create, iter([True, True, False])

    def failing(*arguments: object) -> object:
        if not next(calls):
            raise StoreError("the disk is full")
        return create(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Halves, "create", failing)
    with pytest.raises(StoreError):
        ahead(tmp_path)
    monkeypatch.undo()
    before = {path.name for path in tmp_path.iterdir()}
    completed = ahead(tmp_path)
    assert (len(before), before <= set(completed), len(completed)) == (2, True, 4)


@given(st.integers(1, 52), st.integers(3600, 366 * DAY))
def test_there_are_never_more_records_than_a_name_can_have(weeks: int, length: int) -> None:
    lifetimes = Lifetimes(length, 30 * 3600)
    try:
        number = number_of_keys(weeks, lifetimes)
    except ConfigurationError as error:
        assert weeks * WEEK_SECONDS > MAX_RECORDS * length
        (days,) = (word.removeprefix("EPOCH_LENGTH=").rstrip("d") for word in str(error).split() if "LENGTH=" in word)
        assert number_of_keys(weeks, Lifetimes(int(days) * DAY, 30 * 3600)) <= MAX_RECORDS
    else:
        assert number <= MAX_RECORDS
        assert number * length >= weeks * WEEK_SECONDS
