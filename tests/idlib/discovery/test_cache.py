import threading

import pytest

from idlib.discovery.cache import Cache, Outcome
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


def test_the_number_of_names_is_bounded_and_the_least_used_go_first(cache: Cache[int, str]) -> None:
    questions = Questions(Outcome("found", 3600))
    for number in range(1500):
        cache.get(number, questions)
        cache.get(0, questions)
    assert cache.peek(0) is not None
    assert sum(cache.peek(number) is not None for number in range(1500)) == 1024
    assert cache.peek(1499) is not None


def test_heavy_entries_are_bounded_in_sum(cache: Cache[int, str]) -> None:
    for number in range(20):
        cache.get(number, Questions(Outcome("found", 3600, weight=1000)))
    assert [number for number in range(20) if cache.peek(number)] == [16, 17, 18, 19]
    cache.get(20, Questions(Outcome("huge", 3600, weight=100_000)))
    assert [number for number in range(21) if cache.peek(number)] == [20]
