from dataclasses import replace

import pytest

from idlib.storage import Printed, ReplayEntry, Standing, rules

NOW = 1_800_000_000
HOUR = 3600
DAY = 24 * HOUR


def printed(zone: str = "example.com", key: bytes = b"key", *, is_listed: bool = False) -> Printed:
    return Printed(ReplayEntry("alice.example.com", bytes(16), NOW), zone, key, is_listed)


def after(*times: int, is_listed: bool = False) -> Standing:
    standing = None
    for time in times:
        standing = rules.after_printing(standing, printed(is_listed=is_listed), time)
    assert standing is not None
    return standing


@pytest.mark.parametrize(
    ("times", "proven_at"),
    [
        ((NOW, NOW, NOW), None),
        ((NOW, NOW + HOUR, NOW + HOUR), None),
        ((NOW, NOW + HOUR + 1), None),
        ((NOW, NOW, NOW + HOUR + 1), NOW + HOUR + 1),
        ((NOW, NOW + DAY, NOW + 2 * DAY, NOW + 3 * DAY), NOW + 2 * DAY),
        ((NOW + DAY, NOW, NOW), None),
        ((NOW + DAY, NOW, NOW, NOW + HOUR + 1), NOW + HOUR + 1),
    ],
)
def test_three_messages_the_first_more_than_an_hour_ago_prove_a_name(
    times: tuple[int, ...], proven_at: int | None
) -> None:
    standing = after(*times)
    assert standing.proven_at == standing.apart_since == proven_at
    assert standing.is_proven == (proven_at is not None)


def test_a_listed_name_is_remembered_separately_from_its_first_message_but_is_proven_like_others() -> None:
    assert after(NOW, is_listed=True).apart_since == NOW
    assert not after(NOW, is_listed=True).is_proven
    standing = after(NOW, NOW, NOW + 2 * HOUR, is_listed=True)
    assert (standing.apart_since, standing.proven_at) == (NOW, NOW + 2 * HOUR)


def test_zone_and_key_are_those_of_the_last_message() -> None:
    standing = rules.after_printing(after(NOW), printed("other.example", b"other"), NOW + 1)
    assert (standing.zone, standing.key, standing.printed) == ("other.example", b"other", 2)
    assert (standing.first_printed_at, standing.last_printed_at) == (NOW, NOW + 1)


def test_a_proven_name_is_written_again_only_after_a_change_or_an_hour() -> None:
    kept = after(NOW, NOW, NOW + 2 * HOUR)
    assert rules.is_worth_writing(None, kept)
    assert rules.is_worth_writing(after(NOW), after(NOW, NOW))
    later = rules.after_printing(kept, printed(), kept.last_printed_at + HOUR - 1)
    assert not rules.is_worth_writing(kept, later)
    assert rules.is_worth_writing(kept, replace(later, key=b"other"))
    assert rules.is_worth_writing(kept, replace(later, zone="other.example"))
    assert rules.is_worth_writing(kept, rules.after_printing(kept, printed(), kept.last_printed_at + HOUR))


@pytest.mark.parametrize(("is_listed", "lag"), [(False, 60), (True, HOUR)])
def test_a_name_on_trial_is_written_for_its_first_three_messages_and_then_if_its_last_one_lags_behind(
    *, is_listed: bool, lag: int
) -> None:
    def next_one(kept: Standing, now: int) -> Standing:
        return rules.after_printing(kept, printed(is_listed=is_listed), now)

    second = after(NOW, NOW, is_listed=is_listed)
    kept = next_one(second, NOW)
    assert rules.is_worth_writing(second, kept)
    assert not rules.is_worth_writing(kept, next_one(kept, NOW + lag - 1))
    assert rules.is_worth_writing(kept, next_one(kept, NOW + lag))
    proving = next_one(kept, NOW + HOUR + 1)
    assert proving.is_proven
    assert rules.is_worth_writing(kept, proving)
    # The first time came from a clock that was wrong.
    assert rules.is_worth_writing(kept, next_one(kept, NOW - DAY))


def test_a_name_becomes_listed_at_its_next_message() -> None:
    kept = after(NOW, NOW, NOW)
    assert rules.is_worth_writing(kept, rules.after_printing(kept, printed(is_listed=True), NOW + 1))


def test_the_watermark_of_the_pool_refuses_no_message_issued_after_the_last_one_of_its_name_there() -> None:
    high = NOW + 10 * DAY
    assert rules.forgotten_until(None, high, -1) == -1
    assert rules.forgotten_until(None, high, NOW) == NOW
    # The stored time of the last message may be a minute too early.
    assert rules.forgotten_until(after(NOW), high, -1) == NOW + 360
    assert rules.forgotten_until(after(NOW), NOW - 5, -1) == NOW - 5
    proven = after(NOW, NOW, NOW + 2 * HOUR, NOW + 5 * DAY)
    assert rules.forgotten_until(proven, high, -1) == NOW + 2 * HOUR + 300
    assert rules.forgotten_until(replace(proven, watermark=NOW + 3 * DAY), high, -1) == NOW + 3 * DAY


def test_the_pool_is_searched_until_all_entries_of_a_name_in_it_have_expired() -> None:
    assert rules.is_in_pool(None, NOW)
    assert rules.is_in_pool(after(NOW), NOW + 100 * DAY)
    proven = after(NOW, NOW, NOW + 2 * HOUR)
    assert rules.is_in_pool(proven, NOW + 14 * DAY)
    assert not rules.is_in_pool(proven, NOW + 15 * DAY)


@pytest.mark.parametrize(("identifier", "issued_at"), [(b"", 1), (bytes(15), 1), (bytes(17), None), (bytes(16), -1)])
def test_an_impossible_entry_is_rejected(identifier: bytes, issued_at: int | None) -> None:
    with pytest.raises(ValueError, match=r"the identifier has \d+ bytes|issued at -1"):
        ReplayEntry("alice.example.com", identifier, issued_at)


def test_one_message_a_second_fits_the_limit_of_a_name() -> None:
    assert rules.REPLAY_SECONDS + 2 * DAY < rules.MAX_REMEMBERED_OF_A_NAME
