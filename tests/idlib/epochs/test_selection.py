"""Which epoch key a sender uses: the table of the protocol's rule, and what always holds."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, EpochRecords, PublishedEpoch, SkippedRecord
from idlib.epochs.selection import ChosenEpoch, NoLiveEpoch, Shortening, choose, is_live

HOUR: Final = 3600
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
NOW: Final = 1_800_000_000
KEY: Final = EpochPrivateKey(bytes(range(32))).public


def epoch(start: int, until: int, key_id: str = "a") -> PublishedEpoch:
    """Return a published key whose times are relative to NOW."""
    return PublishedEpoch(EpochRecord(NOW + start, NOW + until, KEY), key_id)


def records(*epochs: PublishedEpoch) -> EpochRecords:
    return EpochRecords(epochs, ())


# The keys' starts and ends, how long the message may take, the end of the chosen key, how long the message may take
# then, and whether that is usual. All times are relative to NOW.
TABLE: Final[list[tuple[str, list[tuple[int, int]], int, int, int, Shortening]]] = [
    ("the only one", [(-HOUR, 9 * DAY)], WEEK, 9 * DAY, WEEK, Shortening.NONE),
    ("the first to die of two", [(-HOUR, 9 * DAY), (-HOUR, 10 * DAY)], WEEK, 9 * DAY, WEEK, Shortening.NONE),
    ("the first that outlives it", [(-DAY, 3 * DAY), (-HOUR, 9 * DAY)], WEEK, 9 * DAY, WEEK, Shortening.NONE),
    ("a short one for a short message", [(-DAY, 9 * DAY), (-HOUR, 4 * HOUR)], HOUR, 4 * HOUR, HOUR, Shortening.NONE),
    ("just long enough", [(-HOUR, WEEK + HOUR)], WEEK, WEEK + HOUR, WEEK, Shortening.NONE),
    ("a second too short", [(-HOUR, WEEK + HOUR - 1)], WEEK, WEEK + HOUR - 1, WEEK, Shortening.UNUSUAL),
    ("the last to die", [(-9 * DAY, DAY), (-8 * DAY, 2 * DAY)], WEEK, 2 * DAY, 2 * DAY, Shortening.UNUSUAL),
    ("keys of 4 hours", [(-2 * HOUR, 2 * HOUR), (-HOUR, 3 * HOUR)], WEEK, 3 * HOUR, 3 * HOUR, Shortening.USUAL),
    ("keys of 7 days", [(-6 * DAY, DAY)], WEEK, DAY, DAY, Shortening.UNUSUAL),
    ("keys of almost 7 days", [(-6 * DAY + 1, DAY)], WEEK, DAY, DAY, Shortening.USUAL),
    ("more than a week counts as a week", [(-HOUR, 9 * DAY)], 30 * DAY, 9 * DAY, WEEK, Shortening.NONE),
    ("an hour to live", [(-9 * DAY, HOUR)], WEEK, HOUR, HOUR, Shortening.UNUSUAL),
    ("an hour to live, for a moment", [(-9 * DAY, HOUR)], 1, HOUR, 1, Shortening.UNUSUAL),
    ("5 minutes ahead", [(300, 9 * DAY)], WEEK, 9 * DAY, WEEK, Shortening.NONE),
    ("not the future one", [(301, 9 * DAY), (-DAY, 2 * DAY)], WEEK, 2 * DAY, 2 * DAY, Shortening.USUAL),
    ("not the dying one", [(-9 * DAY, HOUR - 1), (-HOUR, 9 * DAY)], 1, 9 * DAY, 1, Shortening.NONE),
    ("four weeks by hand", [(w * WEEK, (w + 2) * WEEK + DAY) for w in range(4)], WEEK, 15 * DAY, WEEK, Shortening.NONE),
]


@pytest.mark.parametrize(
    ("keys", "life", "until", "granted", "shortening"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
@pytest.mark.parametrize("step", [1, -1])
def test_the_table(
    keys: list[tuple[int, int]], life: int, until: int, granted: int, shortening: Shortening, step: int
) -> None:
    chosen = choose(records(*(epoch(*times, key_id=str(times)) for times in keys[::step])), NOW, life)
    assert isinstance(chosen, ChosenEpoch)
    assert (chosen.readable_until - NOW, chosen.life_seconds, chosen.shortening) == (until, granted, shortening)


SKIPPED: Final = SkippedRecord("its version is not 1; use newer software")
FOREIGN: Final = SkippedRecord("it is not signed by a key in the name's TLSA records", is_signed_by_another=True)


@pytest.mark.parametrize(
    ("found", "reason", "may_be_outdated"),
    [
        (EpochRecords((), ()), "it has published no epoch record", False),
        (EpochRecords((), (SKIPPED,)), "none of its 1 epoch records can be used: its version is not 1", False),
        (EpochRecords((), (SKIPPED, FOREIGN)), "none of its 2 epoch records can be used: its version is not 1", True),
        (EpochRecords((), (FOREIGN,)), "none of its 1 epoch records can be used: it is not signed", True),
        (records(epoch(301, DAY)), "its next epoch key starts at 2027-01-15T08:05:01Z", False),
        (records(epoch(-DAY, -1), epoch(HOUR, DAY)), "its next epoch key starts at 2027-01-15T09:00:00Z", False),
        (records(epoch(-DAY, HOUR - 1)), "in less than an hour, at 2027-01-15T08:59:59Z", False),
        (records(epoch(-DAY, 0), epoch(-DAY, -5)), "its last epoch key was destroyed at 2027-01-15T08:00:00Z", False),
        (EpochRecords((epoch(-DAY, 0),), (FOREIGN,)), "was destroyed at 2027-01-15T08:00:00Z", True),
    ],
)
def test_without_a_live_key_the_reason_is_given(found: EpochRecords, reason: str, *, may_be_outdated: bool) -> None:
    outcome = choose(found, NOW, WEEK)
    assert isinstance(outcome, NoLiveEpoch)
    assert reason in outcome.reason
    assert outcome.may_be_outdated is may_be_outdated


def test_a_skipped_record_does_not_matter_beside_a_live_key() -> None:
    live = epoch(-HOUR, 9 * DAY)
    assert choose(EpochRecords((live,), (FOREIGN, SKIPPED)), NOW, WEEK) == choose(records(live), NOW, WEEK)


TIMES: Final = st.sampled_from((-WEEK, -HOUR, 0, 300, HOUR, WEEK, WEEK + HOUR)).flatmap(
    lambda time: st.integers(time - 2, time + 2)
) | st.integers(-20 * DAY, 20 * DAY)
PERIODS: Final = st.lists(TIMES, min_size=2, max_size=2, unique=True).map(sorted)
# The id of a key is a digest of its record, so different records have different ids.
ANY_EPOCH: Final = st.builds(
    lambda period, letter: epoch(period[0], period[1], f"{letter} {period}"), PERIODS, st.sampled_from("abc")
)
LIVE_EPOCH: Final = st.builds(
    lambda start, until: epoch(start, until, f"{start} {until}"),
    TIMES.map(lambda time: min(time, 300)),
    TIMES.map(lambda time: HOUR + abs(time)),
)
EPOCHS: Final = st.lists(ANY_EPOCH, max_size=8)
WITH_A_LIVE_ONE: Final = st.builds(lambda epochs, live: [*epochs, live], EPOCHS, LIVE_EPOCH).flatmap(st.permutations)
LIVES: Final = st.integers(1, 8 * DAY)


@given(EPOCHS, LIVES, st.randoms())
def test_the_order_of_the_records_does_not_matter(epochs: list[PublishedEpoch], life: int, random: object) -> None:
    shuffled = list(epochs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(records(*shuffled), NOW, life) == choose(records(*epochs), NOW, life)


@given(EPOCHS, LIVES)
def test_a_key_is_chosen_exactly_if_one_is_live_and_it_is_live(epochs: list[PublishedEpoch], life: int) -> None:
    outcome = choose(records(*epochs), NOW, life)
    assert isinstance(outcome, ChosenEpoch) == any(is_live(epoch, NOW) for epoch in epochs)
    if isinstance(outcome, ChosenEpoch):
        assert outcome.epoch in epochs
        assert is_live(outcome.epoch, NOW)
        assert outcome.epoch.record.start <= NOW + 300
        assert outcome.epoch.record.until >= NOW + HOUR


@given(WITH_A_LIVE_ONE, LIVES)
def test_the_first_to_die_of_those_that_do_is_chosen_and_otherwise_the_last(
    epochs: list[PublishedEpoch], life: int
) -> None:
    outcome = choose(records(*epochs), NOW, life)
    assert isinstance(outcome, ChosenEpoch)
    ends = [epoch.record.until - NOW for epoch in epochs if is_live(epoch, NOW)]
    enough = [end for end in ends if end >= min(life, WEEK) + HOUR]
    assert outcome.readable_until - NOW == (min(enough) if enough else max(ends))
    assert (outcome.shortening is Shortening.NONE) == bool(enough)


@given(WITH_A_LIVE_ONE, LIVES)
def test_a_message_never_takes_longer_than_its_key_lives(epochs: list[PublishedEpoch], life: int) -> None:
    outcome = choose(records(*epochs), NOW, life)
    assert isinstance(outcome, ChosenEpoch)
    assert 0 < outcome.life_seconds <= min(life, WEEK)
    assert NOW + outcome.life_seconds <= outcome.readable_until
    if outcome.shortening is Shortening.NONE:
        assert outcome.life_seconds == min(life, WEEK)


@given(EPOCHS, LIVES, st.integers(-20 * DAY, 20 * DAY))
def test_only_the_distance_to_now_matters(epochs: list[PublishedEpoch], life: int, shift: int) -> None:
    moved = [
        replace(epoch, record=EpochRecord(epoch.record.start + shift, epoch.record.until + shift, KEY))
        for epoch in epochs
    ]
    here, there = choose(records(*epochs), NOW, life), choose(records(*moved), NOW + shift, life)
    assert type(here) is type(there)
    if isinstance(here, ChosenEpoch) and isinstance(there, ChosenEpoch):
        assert there.readable_until - shift == here.readable_until
        assert (there.life_seconds, there.shortening) == (here.life_seconds, here.shortening)
