import threading

import pytest

from idlib.discovery.cache import MAX_BYTES, MAX_BYTES_OF_FAILURES, MAX_BYTES_OF_RENEWALS, Cache, Outcome
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
    """Counts what is asked; the answer is a list of its own each time, so that answers can be told apart."""

    def __init__(self, *outcomes: Outcome[str]) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0

    def __call__(self) -> Outcome[str]:
        self.asked += 1
        return self.outcomes[min(self.asked, len(self.outcomes)) - 1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache[str, str]:
    return Cache(clock)


@pytest.mark.parametrize(("lifetime", "kept"), [(-100, 5), (0, 5), (5, 5), (60, 60), (3600, 3600), (10**9, 3600)])
def test_what_was_found_is_kept_for_its_lifetime_within_bounds(
    cache: Cache[str, str], clock: Clock, lifetime: float, kept: float
) -> None:
    questions = Questions(Outcome("found", lifetime))
    for _ in range(1000):
        assert cache.get("name", questions).get() == "found"
    clock.seconds += kept - 0.01
    assert cache.get("name", questions).get() == "found"
    assert questions.asked == 1
    clock.seconds += 0.01
    assert cache.peek("name") is None
    cache.get("name", questions)
    assert questions.asked == 2


@pytest.mark.parametrize("kind", VERDICTS + DISORDER)
def test_a_failure_is_kept_for_a_minute_at_most(
    cache: Cache[str, str], clock: Clock, kind: type[DiscoveryError]
) -> None:
    questions = Questions(Outcome.failed(kind("fact", "hint")))
    for _ in range(10):
        with pytest.raises(kind, match="fact; hint"):
            cache.get("name", questions).get()
    assert questions.asked == 1
    clock.seconds += 60
    assert cache.peek("name") is None
    assert Outcome(kind("fact"), 10**9).seconds == 60


def test_an_error_that_is_raised_many_times_is_a_new_one_each_time(cache: Cache[str, str]) -> None:
    questions = Questions(Outcome.failed(NoRecordError("fact")))
    caught: list[NoRecordError] = []
    for _ in range(3):
        with pytest.raises(NoRecordError) as information:
            cache.get("name", questions).get()
        caught.append(information.value)
        assert len(information.traceback) == 2
    assert len(set(map(id, caught))) == 3


def test_asking_anew_happens_once_a_minute(cache: Cache[str, str], clock: Clock) -> None:
    questions = Questions(Outcome("old", 3600), Outcome("new", 3600), Outcome("newest", 3600))
    assert cache.get("name", questions).get() == "old"
    assert cache.renew("name", questions).get() == "new"
    assert cache.get("name", questions).get() == "new"
    for _ in range(100):
        assert cache.renew("name", questions).get() == "new"
    assert questions.asked == 2
    clock.seconds += 60
    assert cache.renew("name", questions).get() == "newest"
    assert questions.asked == 3


@pytest.mark.parametrize("kind", DISORDER)
def test_disorder_when_asked_anew_is_no_verdict_and_hides_nothing(
    cache: Cache[str, str], clock: Clock, kind: type[DiscoveryError]
) -> None:
    questions = Questions(Outcome("found", 3600), Outcome.failed(kind("away")), Outcome("again", 3600))
    cache.get("name", questions)
    for _ in range(3):
        with pytest.raises(kind):
            cache.renew("name", questions).get()
        assert cache.get("name", questions).get() == "found"
    assert questions.asked == 2
    clock.seconds += 60
    assert cache.renew("name", questions).get() == "again"


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_verdict_when_asked_anew_takes_the_place_of_what_was_found(
    cache: Cache[str, str], kind: type[DiscoveryError]
) -> None:
    questions = Questions(Outcome("found", 3600), Outcome.failed(kind("gone")))
    cache.get("name", questions)
    with pytest.raises(kind):
        cache.renew("name", questions).get()
    with pytest.raises(kind):
        cache.get("name", questions).get()


def test_within_the_minute_what_has_run_out_is_asked_for_as_usual(cache: Cache[str, str], clock: Clock) -> None:
    questions = Questions(Outcome("first", 5), Outcome("second", 5))
    cache.renew("name", questions)
    clock.seconds += 10
    assert cache.renew("name", questions).get() == "second"


def test_threads_that_ask_the_same_at_once_make_one_question(cache: Cache[str, str]) -> None:
    may_answer = threading.Event()
    questions = Questions(Outcome("found", 60))

    def ask() -> Outcome[str]:
        outcome = questions()
        assert may_answer.wait(10)
        return outcome

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(cache.get("name", ask).get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    other = cache.get("other", Questions(Outcome("not held up", 60)))
    assert other.get() == "not held up"
    may_answer.set()
    for thread in threads:
        thread.join()
    assert answers == ["found"] * 8
    assert questions.asked == 1


def test_a_question_that_fails_unforeseen_does_not_block_the_next(cache: Cache[str, str]) -> None:
    def fail() -> Outcome[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get("name", fail)
    assert cache.get("name", Questions(Outcome("found", 60))).get() == "found"


def test_memory_is_bounded_and_the_least_used_go_first(cache: Cache[int, str]) -> None:
    size = MAX_BYTES // 100
    for number in range(200):
        cache.get(number, Questions(Outcome("found", 3600, size)))
        assert cache.peek(0) is not None
    kept = [number for number in range(200) if cache.peek(number) is not None]
    assert 95 <= len(kept) <= 100
    assert kept == [0, *range(200 - len(kept) + 1, 200)]


def test_what_is_larger_than_all_memory_is_kept_alone(cache: Cache[int, str]) -> None:
    cache.get(1, Questions(Outcome("found", 3600)))
    cache.get(2, Questions(Outcome("huge", 3600, 10 * MAX_BYTES)))
    assert (cache.peek(1), cache.peek(2) is not None) == (None, True)
    cache.get(3, Questions(Outcome("found", 3600)))
    assert [number for number in range(4) if cache.peek(number)] == [3]


@pytest.mark.parametrize("kind", VERDICTS + DISORDER)
def test_failures_never_displace_what_was_found(cache: Cache[int, str], kind: type[DiscoveryError]) -> None:
    cache.get(0, Questions(Outcome("found", 3600)))
    for number in range(1, 10_000):
        cache.get(number, Questions(Outcome.failed(kind("x" * 300))))
    assert cache.get(0, Questions()).get() == "found"
    kept = sum(cache.peek(number) is not None for number in range(1, 10_000))
    assert 1000 < kept < MAX_BYTES_OF_FAILURES / 300


def test_what_was_found_last_is_known_after_its_time(cache: Cache[str, str], clock: Clock) -> None:
    assert cache.last_found("name") is None
    cache.get("name", Questions(Outcome("found", 60)))
    clock.seconds += 100_000
    assert cache.peek("name") is None
    assert cache.last_found("name") == "found"
    with pytest.raises(TemporaryDiscoveryError):
        cache.get("name", Questions(Outcome.failed(TemporaryDiscoveryError("away")))).get()
    assert cache.last_found("name") == "found"
    clock.seconds += 60
    cache.get("name", Questions(Outcome("found anew", 60)))
    assert cache.last_found("name") == "found anew"
    assert cache.last_failure("name") is None


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_verdict_ends_what_was_found_last(cache: Cache[str, str], clock: Clock, kind: type[DiscoveryError]) -> None:
    cache.get("name", Questions(Outcome("found", 60)))
    clock.seconds += 60
    cache.get("name", Questions(Outcome.failed(kind("gone", zone="example.test"))))
    assert cache.last_found("name") is None
    clock.seconds += 60
    failure = cache.last_failure("name")
    assert isinstance(failure, kind)
    assert failure.zone == "example.test"


def test_a_renewal_counts_for_a_minute(cache: Cache[str, str], clock: Clock) -> None:
    cache.get("name", Questions(Outcome("found", 3600)))
    assert not cache.was_renewed("name")
    cache.renew("name", Questions(Outcome("found", 3600)))
    assert cache.was_renewed("name")
    assert not cache.was_renewed("other")
    clock.seconds += 59.9
    assert cache.was_renewed("name")
    clock.seconds += 0.1
    assert not cache.was_renewed("name")


@pytest.mark.parametrize("kind", VERDICTS + DISORDER)
def test_a_renewal_counts_if_it_came_to_a_verdict(cache: Cache[str, str], kind: type[DiscoveryError]) -> None:
    cache.renew("name", Questions(Outcome.failed(kind("failed"))))
    assert cache.was_renewed("name") is (kind in VERDICTS)


def test_the_memory_of_renewals_is_bounded(cache: Cache[int, str]) -> None:
    for number in range(10_000):
        cache.renew(number, Questions(Outcome("found", 3600)))
    assert sum(cache.was_renewed(number) for number in range(10_000)) < MAX_BYTES_OF_RENEWALS / 600 + 1
    assert cache.was_renewed(9_999)


def test_what_was_found_of_trusted_names_is_never_forgotten_for_others() -> None:
    trusted = range(10)
    cache: Cache[int, str] = Cache(is_trusted=lambda name: name in trusted)
    size = MAX_BYTES // 100
    for name in range(1000):
        cache.get(name, Questions(Outcome("found", 3600, size)))
    assert [name for name in trusted if cache.peek(name) is None] == []
    assert sum(cache.peek(name) is not None for name in range(1000)) < 100
