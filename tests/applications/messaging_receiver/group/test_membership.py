"""The lease of a receiver is renewed, and taken again after it has expired; the leases are played by a double."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from idlib.database_time import DatabaseTimekeeper
from idlib.errors import DatabaseError, IdlibError
from idlib.storage.postgresql.leases import Leases, OtherReceiverError
from messaging_receiver.durable_writes import DurableWrites
from messaging_receiver.group import membership
from messaging_receiver.group.membership import Membership


class _Leases(Leases):
    """Leases without a database; each renewal takes the next result."""

    def __init__(self) -> None:
        self.renewals: list[bool | Exception] = []
        self.next_client_id = "first"
        self.refusal: OtherReceiverError | None = None
        self.valid = True
        self.terms: list[int] = []
        self.subscriptions = 0
        self.calls: list[str] = []
        self.is_away = False
        self.notes: dict[str, str] = {}
        self.is_renewed = threading.Semaphore(0)

    @property
    def is_valid(self) -> bool:
        return self.valid

    @property
    def term(self) -> int | None:
        return self.terms.pop(0) if self.terms else 1

    @property
    def receivers(self) -> int:
        return 3

    def renew(self) -> bool:
        self.is_renewed.release()
        result = self.renewals.pop(0) if self.renewals else True
        if isinstance(result, Exception):
            raise result
        return result

    def take(self) -> str:
        if self.refusal is not None:
            raise self.refusal
        return self.next_client_id

    def note_subscribed(self) -> None:
        self.subscriptions += 1

    def abandon(self) -> None:
        self.calls.append("abandon")

    def session(self, client_id: str) -> str | None:
        if self.is_away:
            raise DatabaseError("it is away")
        return self.notes.get(client_id)

    def note_session(self, client_id: str, text: str) -> None:
        if self.is_away:
            raise DatabaseError("it is away")
        self.notes[client_id] = text

    def wait(self, times: int) -> None:
        for _ in range(times):
            assert self.is_renewed.acquire(timeout=10)


class _Timekeeper(DatabaseTimekeeper):
    def __init__(self) -> None:
        pass

    def refresh(self) -> None:
        pass


@pytest.fixture
def leases() -> _Leases:
    return _Leases()


@pytest.fixture
def writes() -> DurableWrites:
    return DurableWrites(threading.Event(), lambda: None)


@pytest.fixture
def joined(
    leases: _Leases, writes: DurableWrites, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Membership]:
    caplog.set_level(logging.INFO)
    for name in ("RENEWAL_SECONDS", "STORE_RETRY_SECONDS"):
        monkeypatch.setattr(membership, name, 0.01)
    joined = Membership(leases, "first", _Timekeeper(), writes)
    yield joined
    joined.end()


def test_a_lease_that_expired_is_taken_again(
    joined: Membership, leases: _Leases, caplog: pytest.LogCaptureFixture
) -> None:
    leases.renewals = [True, False]
    joined.start()
    leases.wait(3)
    assert joined.client_id == "first"
    assert caplog.messages == ["The lease of this receiver had expired, and is renewed: it prints again"]


def test_a_lease_that_another_receiver_has_taken_is_replaced(
    joined: Membership, leases: _Leases, caplog: pytest.LogCaptureFixture
) -> None:
    leases.renewals, leases.next_client_id = [False], "second"
    joined.start()
    leases.wait(2)
    assert joined.client_id == "second"
    assert [line for line in caplog.messages if "another receiver has taken over its session" in line]
    assert "second" not in caplog.text


def test_an_outage_of_the_database_is_reported_once_and_the_lease_is_renewed_after_it(
    joined: Membership, leases: _Leases, caplog: pytest.LogCaptureFixture
) -> None:
    leases.renewals = [DatabaseError("it is away"), DatabaseError("it starts"), True]
    joined.start()
    leases.wait(4)
    assert caplog.messages == ["Messages wait for the database: it is away", "The database can be used again"]


def test_a_slow_database_is_reported(
    joined: Membership, leases: _Leases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(membership, "_SLOW_SECONDS", 0.0)
    joined.start()
    leases.wait(3)
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "The database answers so slowly that the lease of this receiver may expire again and again"
    ]


def test_a_receiver_ends_if_another_one_has_taken_its_place(joined: Membership, leases: _Leases) -> None:
    leases.renewals, leases.refusal = [False], OtherReceiverError("db.example/messages", "soon")
    errors: list[IdlibError] = []
    joined.fail = errors.append
    joined.start()
    leases.wait(2)
    assert errors == [leases.refusal]


def test_an_internal_error_does_not_end_the_renewal(
    joined: Membership, leases: _Leases, caplog: pytest.LogCaptureFixture
) -> None:
    leases.renewals = [ValueError("unexpected")]
    joined.start()
    leases.wait(3)
    assert caplog.messages == ["Internal error while the lease is renewed"]


def test_each_new_term_of_the_lease_is_told_once(joined: Membership, leases: _Leases) -> None:
    told: list[int] = []
    joined.note_lapse = lambda: told.append(len(leases.terms))
    leases.terms = [1, 2, 2, 1]
    joined.start()
    leases.wait(6)
    assert told == [2, 0]


def test_the_subscription_is_noted_once(joined: Membership, leases: _Leases) -> None:
    answers: list[bool] = [True, False]
    joined.is_subscribed = _popping(answers)
    joined.start()
    leases.wait(5)
    assert leases.subscriptions == 1


def test_the_leases_are_abandoned_at_the_end(joined: Membership, leases: _Leases) -> None:
    joined.start()
    joined.end()
    assert leases.calls == ["abandon"]


def test_health_and_status_tell_the_state_of_the_lease(joined: Membership, leases: _Leases) -> None:
    joined.start()
    assert joined.problem is None
    assert joined.state == ", lease valid, receivers 3"
    leases.valid = False
    assert str(joined.problem) == "lease: it has expired, and nothing is printed until it is renewed"
    assert joined.members() == {"lease": "expired", "receivers": 3}


def test_a_late_note_about_the_session_before_is_not_one_about_the_new_session(
    joined: Membership, leases: _Leases
) -> None:
    leases.renewals, leases.next_client_id = [False], "second"
    assert joined.recall() is None
    joined.start()
    leases.wait(2)
    joined.note("text")
    assert joined.recall() is None
    assert leases.notes == {"first": "text"}


def test_what_is_noted_of_the_session_is_not_needed(joined: Membership, leases: _Leases) -> None:
    joined.start()
    leases.is_away = True
    joined.note("text")
    assert joined.recall() is None


def _popping(answers: list[bool]) -> Callable[[], bool]:
    return lambda: answers.pop() if answers else True
