"""The order in which names are looked up, with look-ups whose duration the tests control."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from idlib.discovery import Found
from idlib.errors import NoRecordError, TemporaryDiscoveryError
from idlib.names import IdentityName
from messaging_receiver.lookups import LOOKUPS_OF_A_ZONE, LookupOutcome, LookupRequest, Lookups

WORKERS = 16


class Resolver:
    """A resolver whose answers the tests control."""

    def __init__(self) -> None:
        self.asked: list[IdentityName] = []
        self.answered: list[IdentityName] = []
        self.silent: set[str] = set()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self.under_way = 0
        self.most_under_way = 0

    def ask(self, name: IdentityName) -> Found:
        with self._lock:
            self.asked.append(name)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        if name.text.partition(".")[2] in self.silent:
            self.ended.wait(20)
        else:
            time.sleep(0.01)
        with self._lock:
            self.under_way -= 1
        if name.text.partition(".")[2] in self.silent:
            raise TemporaryDiscoveryError("no answer")
        raise NoRecordError("it has none")

    def note(self, name: IdentityName, _: LookupOutcome) -> None:
        self.answered.append(name)


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.ended.set()


def request(resolver: Resolver, name: str, domain: str = "", *, is_retry: bool = False) -> LookupRequest[Found]:
    identity = IdentityName(name)
    zone = identity.text.partition(".")[2]
    return LookupRequest(identity, zone, domain or zone, resolver.ask, is_retry)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_name_is_looked_up_however_many_there_are(resolver: Resolver) -> None:
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    for number in range(2000):
        lookups.ask(request(resolver, f"d{number}.fleet.test"))
    wait_for(lambda: len(resolver.answered) == 2000)
    assert len(set(resolver.asked)) == 2000


def test_a_zone_that_answers_gets_more_threads_and_leaves_a_quarter_to_others(resolver: Resolver) -> None:
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    for number in range(300):
        lookups.ask(request(resolver, f"d{number}.fleet.test"))
    wait_for(lambda: len(resolver.answered) == 300)
    assert LOOKUPS_OF_A_ZONE < resolver.most_under_way <= WORKERS - WORKERS // 4


def test_threads_that_have_become_idle_do_not_keep_the_number_of_threads_low(resolver: Resolver) -> None:
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    for number in range(LOOKUPS_OF_A_ZONE):
        lookups.ask(request(resolver, f"first-{number}.fleet.test"))
    wait_for(lambda: len(resolver.answered) == LOOKUPS_OF_A_ZONE)
    # Until the threads wait again.
    time.sleep(0.1)
    for number in range(300):
        lookups.ask(request(resolver, f"d{number}.fleet.test"))
    wait_for(lambda: len(resolver.answered) == LOOKUPS_OF_A_ZONE + 300)
    assert LOOKUPS_OF_A_ZONE < resolver.most_under_way <= WORKERS - WORKERS // 4


def test_a_silent_zone_keeps_four_threads_and_all_others_continue(resolver: Resolver) -> None:
    resolver.silent.add("dead.test")
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    for number in range(300):
        lookups.ask(request(resolver, f"d{number}.dead.test"))
    wait_for(lambda: len(resolver.asked) == LOOKUPS_OF_A_ZONE)
    for number in range(100):
        lookups.ask(request(resolver, f"d{number}.alive{number % 3}.test"))
    wait_for(lambda: len(resolver.answered) == 100)
    assert len([name for name in resolver.asked if "dead" in name.text]) == LOOKUPS_OF_A_ZONE


def test_many_silent_zones_of_one_owner_leave_a_quarter_to_other_owners(resolver: Resolver) -> None:
    zones = [f"z{number}.evil.test" for number in range(50)]
    resolver.silent.update(zones)
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    for zone in zones:
        lookups.ask(request(resolver, f"d.{zone}", "evil.test"))
    wait_for(lambda: len(resolver.asked) == WORKERS - WORKERS // 4)
    lookups.ask(request(resolver, "alice.good.test"))
    wait_for(lambda: IdentityName("alice.good.test") in resolver.answered)


def test_names_that_failed_before_come_after_new_names_of_their_zone(resolver: Resolver) -> None:
    resolver.silent.add("busy.test")
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    for number in range(LOOKUPS_OF_A_ZONE):
        lookups.ask(request(resolver, f"first{number}.busy.test"))
    wait_for(lambda: len(resolver.asked) == LOOKUPS_OF_A_ZONE)
    lookups.ask(request(resolver, "again.busy.test", is_retry=True))
    for number in range(LOOKUPS_OF_A_ZONE):
        lookups.ask(request(resolver, f"new{number}.busy.test"))
    resolver.ended.set()
    wait_for(lambda: len(resolver.asked) == 2 * LOOKUPS_OF_A_ZONE + 1)
    assert resolver.asked[-1] == IdentityName("again.busy.test")


def test_a_cancelled_request_is_not_looked_up_and_leaves_nothing_behind(resolver: Resolver) -> None:
    resolver.silent.add("dead.test")
    lookups: Lookups[Found] = Lookups(resolver.note, 4)
    for number in range(3):
        lookups.ask(request(resolver, f"d{number}.dead.test"))
    wait_for(lambda: len(resolver.asked) == 3)
    waiting = [request(resolver, f"w{number}.dead.test") for number in range(100)]
    for one in waiting:
        lookups.ask(one)
    assert all(lookups.cancel(one) for one in waiting)
    assert not lookups.cancel(request(resolver, "d0.dead.test"))
    resolver.ended.set()
    wait_for(lambda: len(resolver.answered) == 3)
    assert len(resolver.asked) == 3


def test_the_last_answer_and_failed_domains_are_recorded(resolver: Resolver) -> None:
    resolver.silent.add("dead.test")
    lookups: Lookups[Found] = Lookups(resolver.note, WORKERS)
    began = lookups.answered_at
    lookups.ask(request(resolver, "d.dead.test"))
    resolver.ended.set()
    wait_for(lambda: bool(resolver.answered))
    assert (lookups.failed_domains, lookups.answered_at) == (frozenset({"dead.test"}), began)
    lookups.ask(request(resolver, "d.alive.test"))
    wait_for(lambda: len(resolver.answered) == 2)
    assert (lookups.failed_domains, lookups.answered_at > began) == (frozenset(), True)


def test_a_request_is_not_missed_if_it_comes_just_as_an_idle_thread_times_out(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging_receiver.lookups._IDLE_SECONDS", 0.01)
    lookups: Lookups[Found] = Lookups(resolver.note, 1)
    for number in range(300):
        lookups.ask(request(resolver, f"d{number}.alive.test"))
        wait_for(lambda number=number: len(resolver.answered) == number + 1)  # type: ignore[misc]
        time.sleep(0.0095 + 0.0001 * (number % 10))


def test_an_internal_error_of_a_look_up_is_logged_and_ends_no_thread(resolver: Resolver) -> None:
    outcomes: list[LookupOutcome] = []
    lookups: Lookups[Found] = Lookups(lambda _, outcome: outcomes.append(outcome), 1)

    def fail(_: IdentityName) -> Found:
        raise ZeroDivisionError

    lookups.ask(LookupRequest(IdentityName("a.test.example"), "test", "test", fail))
    lookups.ask(request(resolver, "d.alive.test"))
    wait_for(lambda: len(outcomes) == 2)
    assert outcomes[0] is None
    assert isinstance(outcomes[1], NoRecordError)
