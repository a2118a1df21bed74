"""How a receiver leaves its group."""

import threading
from collections.abc import Iterator

import pytest

from idlib.errors import StoreError
from messaging_receiver.group import departure as module
from messaging_receiver.group.departure import Departure


class Leases:
    """The leases of a receiver that leaves."""

    def __init__(self, *, stays: bool = True, error: StoreError | None = None) -> None:
        self.stays = stays
        self.error = error
        self.released: list[str] = []

    def begin_to_leave(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.stays

    def release(self, client_id: str) -> None:
        self.released.append(client_id)


@pytest.fixture(autouse=True)
def _ended_threads() -> Iterator[None]:
    """Wait for what still leaves after its test, so that it logs nothing in another one."""
    yield
    for thread in threading.enumerate():
        if thread.name == "Leaving":
            thread.join(10)


def departure(
    leases: Leases, left: list[float], *, is_quick: bool = True, stopping: threading.Event | None = None
) -> Departure:
    leaving = threading.Event()
    leaving.set()

    def leave(seconds: float) -> bool:
        left.append(seconds)
        return is_quick

    return Departure(leases, lambda: "client", leave, leaving, stopping or threading.Event())


def test_the_lease_is_released_when_the_session_has_ended() -> None:
    leases, stopping, left = Leases(), threading.Event(), list[float]()
    departure(leases, left, stopping=stopping).run()
    assert stopping.is_set()
    assert len(left) == 1
    assert leases.released == ["client"]


def test_the_last_receiver_keeps_its_session_and_its_lease() -> None:
    leases, left = Leases(stays=False), list[float]()
    departure(leases, left).leave()
    assert not left
    assert not leases.released


def test_the_lease_is_kept_for_another_receiver_if_not_everything_could_be_finished() -> None:
    leases, left = Leases(), list[float]()
    departure(leases, left, is_quick=False).leave()
    assert not leases.released


def test_the_receiver_stops_although_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    stopping, left = threading.Event(), list[float]()
    departure(Leases(error=StoreError("the database is away")), left, stopping=stopping).run()
    assert stopping.is_set()
    assert not left
    assert "cannot leave its group now, and its lease expires: the database is away" in caplog.text


def test_the_receiver_stops_although_the_database_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.05)
    answered, stopping = threading.Event(), threading.Event()

    class Silent(Leases):
        def begin_to_leave(self) -> bool:
            answered.wait(20)
            return False

    departure(Silent(), [], stopping=stopping).run()
    assert stopping.is_set()
    answered.set()
