import contextlib
import threading

import pytest

from idlib.discovery.cache import MAX_BYTES, MAX_BYTES_OF_FAILURES, MAX_BYTES_OF_RENEWALS, Cache, CachedResult
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    TemporaryDiscoveryError,
)

VERDICTS = [NoRecordError, NotSecureError, NoUsableRecordError]
DISORDER = [BogusError, TemporaryDiscoveryError]


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Questions:
    """Counts the look-ups, and returns the given outcomes in turn; the last one is repeated."""

    def __init__(self, *outcomes: CachedResult[str]) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0

    def __call__(self) -> CachedResult[str]:
        self.asked += 1
        return self.outcomes[min(self.asked, len(self.outcomes)) - 1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache[str, str]:
    return Cache(clock)


@pytest.mark.parametrize(("lifetime", "kept"), [(-100, 5), (0, 5), (5, 5), (60, 60), (3600, 3600), (10**9, 3600)])
def test_an_answer_is_cached_for_its_lifetime_within_limits(
    cache: Cache[str, str], clock: Clock, lifetime: float, kept: float
) -> None:
    questions = Questions(CachedResult("found", lifetime))
    for _ in range(1000):
        assert cache.get("name", questions) == "found"
    clock.seconds += kept - 0.01
    assert cache.get("name", questions) == "found"
    assert questions.asked == 1
    clock.seconds += 0.01
    assert cache.peek("name") is None
    cache.get("name", questions)
    assert questions.asked == 2


@pytest.mark.parametrize("kind", VERDICTS + DISORDER)
def test_a_failure_is_cached_for_at_most_a_minute(
    cache: Cache[str, str], clock: Clock, kind: type[DiscoveryError]
) -> None:
    questions = Questions(CachedResult.failed(kind("fact", "hint")))
    for _ in range(10):
        with pytest.raises(kind, match="fact; hint"):
            cache.get("name", questions)
    assert questions.asked == 1
    clock.seconds += 60
    assert cache.peek("name") is None
    assert CachedResult(kind("fact"), 10**9).seconds == 60


def test_an_error_that_is_raised_again_is_a_new_object(cache: Cache[str, str]) -> None:
    questions = Questions(CachedResult.failed(NoRecordError("fact")))
    caught: list[NoRecordError] = []
    lengths: set[int] = set()
    for _ in range(3):
        with pytest.raises(NoRecordError) as information:
            cache.get("name", questions)
        caught.append(information.value)
        lengths.add(len(information.traceback))
    assert len(set(map(id, caught))) == 3
    assert len(lengths) == 1


def test_a_look_up_is_repeated_on_request_at_most_once_a_minute(cache: Cache[str, str], clock: Clock) -> None:
    questions = Questions(CachedResult("old", 3600), CachedResult("new", 3600), CachedResult("newest", 3600))
    assert cache.get("name", questions) == "old"
    assert cache.renew("name", questions) == "new"
    assert cache.get("name", questions) == "new"
    for _ in range(100):
        assert cache.renew("name", questions) == "new"
    assert questions.asked == 2
    clock.seconds += 60
    assert cache.renew("name", questions) == "newest"
    assert questions.asked == 3


@pytest.mark.parametrize("kind", DISORDER)
def test_a_repeated_look_up_that_fails_keeps_the_cached_answer(
    cache: Cache[str, str], clock: Clock, kind: type[DiscoveryError]
) -> None:
    questions = Questions(CachedResult("found", 3600), CachedResult.failed(kind("away")), CachedResult("again", 3600))
    cache.get("name", questions)
    for _ in range(3):
        with pytest.raises(kind):
            cache.renew("name", questions)
        assert cache.get("name", questions) == "found"
    assert questions.asked == 2
    clock.seconds += 60
    assert cache.renew("name", questions) == "again"


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_verdict_of_a_repeated_look_up_replaces_the_cached_answer(
    cache: Cache[str, str], kind: type[DiscoveryError]
) -> None:
    questions = Questions(CachedResult("found", 3600), CachedResult.failed(kind("gone")))
    cache.get("name", questions)
    with pytest.raises(kind):
        cache.renew("name", questions)
    with pytest.raises(kind):
        cache.get("name", questions)


def test_an_expired_answer_is_looked_up_even_within_the_minute(cache: Cache[str, str], clock: Clock) -> None:
    questions = Questions(CachedResult("first", 5), CachedResult("second", 5))
    cache.renew("name", questions)
    clock.seconds += 10
    assert cache.renew("name", questions) == "second"


def test_simultaneous_look_ups_of_a_name_cause_one_query(cache: Cache[str, str]) -> None:
    may_answer = threading.Event()
    questions = Questions(CachedResult("found", 60))

    def ask() -> CachedResult[str]:
        outcome = questions()
        assert may_answer.wait(10)
        return outcome

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(cache.get("name", ask))) for _ in range(8)]
    for thread in threads:
        thread.start()
    other = cache.get("other", Questions(CachedResult("not held up", 60)))
    assert other == "not held up"
    may_answer.set()
    for thread in threads:
        thread.join()
    assert answers == ["found"] * 8
    assert questions.asked == 1


def test_a_look_up_with_an_internal_error_does_not_block_the_next(cache: Cache[str, str]) -> None:
    def fail() -> CachedResult[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get("name", fail)
    assert cache.get("name", Questions(CachedResult("found", 60))) == "found"


def test_memory_is_limited_and_the_least_recently_used_answers_are_dropped_first(cache: Cache[int, str]) -> None:
    size = MAX_BYTES // 100
    for number in range(200):
        cache.get(number, Questions(CachedResult("found", 3600, size)))
        assert cache.peek(0) is not None
    kept = [number for number in range(200) if cache.peek(number) is not None]
    assert 95 <= len(kept) <= 100
    assert kept == [0, *range(200 - len(kept) + 1, 200)]


def test_an_answer_above_the_memory_limit_is_cached_alone(cache: Cache[int, str]) -> None:
    cache.get(1, Questions(CachedResult("found", 3600)))
    cache.get(2, Questions(CachedResult("huge", 3600, 10 * MAX_BYTES)))
    assert (cache.peek(1), cache.peek(2) is not None) == (None, True)
    cache.get(3, Questions(CachedResult("found", 3600)))
    assert [number for number in range(4) if cache.peek(number)] == [3]


@pytest.mark.parametrize("kind", VERDICTS + DISORDER)
def test_failures_never_displace_answers(cache: Cache[int, str], kind: type[DiscoveryError]) -> None:
    cache.get(0, Questions(CachedResult("found", 3600)))
    for number in range(1, 10_000):
        with contextlib.suppress(kind):
            cache.get(number, Questions(CachedResult.failed(kind("x" * 300))))
    assert cache.get(0, Questions()) == "found"
    kept = sum(cache.peek(number) is not None for number in range(1, 10_000))
    assert 1000 < kept < MAX_BYTES_OF_FAILURES / 300


def test_the_last_answer_is_known_after_it_has_expired(cache: Cache[str, str], clock: Clock) -> None:
    assert cache.last_found("name") is None
    cache.get("name", Questions(CachedResult("found", 60)))
    clock.seconds += 100_000
    assert cache.peek("name") is None
    assert cache.last_found("name") == "found"
    with pytest.raises(TemporaryDiscoveryError):
        cache.get("name", Questions(CachedResult.failed(TemporaryDiscoveryError("away"))))
    assert cache.last_found("name") == "found"
    clock.seconds += 60
    cache.get("name", Questions(CachedResult("found again", 60)))
    assert cache.last_found("name") == "found again"
    assert cache.last_failure("name") is None


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_verdict_removes_the_last_answer(cache: Cache[str, str], clock: Clock, kind: type[DiscoveryError]) -> None:
    cache.get("name", Questions(CachedResult("found", 60)))
    clock.seconds += 60
    with pytest.raises(kind):
        cache.get("name", Questions(CachedResult.failed(kind("gone", zone="example.test"))))
    assert cache.last_found("name") is None
    clock.seconds += 60
    failure = cache.last_failure("name")
    assert isinstance(failure, kind)
    assert failure.zone == "example.test"


def test_a_repeated_look_up_counts_for_a_minute(cache: Cache[str, str], clock: Clock) -> None:
    cache.get("name", Questions(CachedResult("found", 3600)))
    assert not cache.was_renewed("name")
    cache.renew("name", Questions(CachedResult("found", 3600)))
    assert cache.was_renewed("name")
    assert not cache.was_renewed("other")
    clock.seconds += 59.9
    assert cache.was_renewed("name")
    clock.seconds += 0.1
    assert not cache.was_renewed("name")


@pytest.mark.parametrize("kind", VERDICTS + DISORDER)
def test_a_repeated_look_up_counts_only_if_it_has_a_verdict(cache: Cache[str, str], kind: type[DiscoveryError]) -> None:
    with pytest.raises(kind):
        cache.renew("name", Questions(CachedResult.failed(kind("failed"))))
    assert cache.was_renewed("name") is (kind in VERDICTS)


def test_the_number_of_remembered_repeated_look_ups_is_limited(cache: Cache[int, str]) -> None:
    for number in range(10_000):
        cache.renew(number, Questions(CachedResult("found", 3600)))
    assert sum(cache.was_renewed(number) for number in range(10_000)) < MAX_BYTES_OF_RENEWALS / 500 + 1
    assert cache.was_renewed(9_999)


def test_answers_about_trusted_names_are_never_displaced_by_others() -> None:
    trusted = range(10)
    cache: Cache[int, str] = Cache(is_trusted=lambda name: name in trusted)
    size = MAX_BYTES // 100
    for name in range(1000):
        cache.get(name, Questions(CachedResult("found", 3600, size)))
    assert [name for name in trusted if cache.peek(name) is None] == []
    assert sum(cache.peek(name) is not None for name in range(1000)) < 100
