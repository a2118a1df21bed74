from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.system.backoff import Backoff, RetryTimer


def pauses(backoff: Backoff, number: int) -> list[float]:
    return [backoff.next_pause() for _ in range(number)]


def test_pauses_double_up_to_the_longest_and_are_shortened_randomly_by_at_most_half() -> None:
    seen = pauses(Backoff(1.0, 8.0), 6)
    for pause, most in zip(seen, [1.0, 2.0, 4.0, 8.0, 8.0, 8.0], strict=True):
        assert most / 2 <= pause <= most


def test_the_first_pause_is_the_shortest_again_after_a_success() -> None:
    backoff = Backoff(1.0, 8.0)
    pauses(backoff, 5)
    backoff.reset()
    assert backoff.next_pause() <= 1.0
    assert 1.0 <= backoff.next_pause() <= 2.0


def test_a_conflict_causes_the_longest_pauses_until_it_is_reset() -> None:
    backoff = Backoff(1.0, 64.0)
    backoff.give_way()
    assert all(32.0 <= pause <= 64.0 for pause in pauses(backoff, 3))
    backoff.reset()
    assert backoff.next_pause() <= 1.0


def test_two_clients_that_fail_together_do_not_retry_together() -> None:
    one, other = Backoff(60.0, 60.0), Backoff(60.0, 60.0)
    assert pauses(one, 5) != pauses(other, 5)


@pytest.mark.parametrize("number", [1, 100, 5000])
def test_a_long_outage_causes_no_overflow(number: int) -> None:
    assert all(0.25 <= pause <= 60.0 for pause in pauses(Backoff(0.5, 60.0), number))


@given(st.floats(0.001, 10), st.floats(1, 100), st.integers(1, 30))
def test_no_pause_is_longer_than_the_longest(shortest: float, factor: float, number: int) -> None:
    seen = pauses(Backoff(shortest, shortest * factor), number)
    assert all(shortest / 2 <= pause <= shortest * factor for pause in seen)
    assert all(later >= earlier / 2 for earlier, later in pairwise(seen))


def test_a_retry_is_due_at_once_until_it_fails_and_again_after_a_success() -> None:
    timer = RetryTimer(60.0, 60.0)
    assert timer.is_due()
    timer.fail()
    assert not timer.is_due()
    timer.succeed()
    assert timer.is_due()
