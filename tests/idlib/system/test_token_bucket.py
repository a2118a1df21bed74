"""A token bucket allows a burst, and then a steady rate."""

from hypothesis import given
from hypothesis import strategies as st

from idlib.system.token_bucket import TokenBucket


def test_it_allows_a_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(101.9)
    assert bucket.take(102.0)
    assert not bucket.take(102.0)


def test_it_saves_no_more_than_a_burst() -> None:
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take(1e9) for _ in range(5)] == [True, True, True, False, False]


def test_peeking_takes_no_token() -> None:
    bucket = TokenBucket(1, 1.0)
    assert all(bucket.has_token(0.0) for _ in range(3))
    assert bucket.take(0.0)
    assert not bucket.has_token(0.0)


def test_small_steps_of_the_clock_add_up() -> None:
    bucket = TokenBucket(1, 10.0)
    assert [second for second in range(41) if bucket.take(second)] == [0, 10, 20, 30, 40]


@given(st.lists(st.floats(0, 10), max_size=100), st.integers(1, 20), st.floats(0.01, 100))
def test_it_never_allows_more_than_its_burst_and_its_rate(pauses: list[float], burst: int, seconds: float) -> None:
    bucket, now, allowed = TokenBucket(burst, seconds), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += bucket.take(now)
    assert allowed <= burst + now / seconds + 1e-6
