"""What the receiver tells a service manager, on a real socket."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idlib.system.service_manager import ServiceManager
from messaging_receiver import service_notices
from messaging_receiver.service_notices import Notices

WATCHDOG_SECONDS = 0.03


class Listener:
    """A service manager's socket, and what was said on it.

    Args:
        path: Where it listens.
    """

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def next(self) -> str:
        return self.socket.recv(4096).decode()

    def wait_for(self, text: str) -> list[str]:
        """Return what was said until a text was."""
        heard = [self.next()]
        while heard[-1] != text:
            heard.append(self.next())
        return heard


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    one = Listener(tmp_path / "notify")
    yield one
    one.socket.close()


@pytest.fixture
def stopping() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "Service-Manager":
            thread.join(10)


Start = Callable[[], Notices]


@pytest.fixture
def start(listener: Listener, tmp_path: Path, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(service_notices, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(service_notices, "_STATUS_SECONDS", 0.01)
    return lambda: Notices(ServiceManager(str(tmp_path / "notify"), WATCHDOG_SECONDS), stopping)


def test_a_start_that_takes_long_is_not_ended_and_counts_as_started(
    start: Start, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_notices, "READY_SECONDS", 0.1)
    start()
    heard = listener.wait_for("READY=1")
    assert "STATUS=starting" in heard
    assert heard.count("WATCHDOG=1") >= 2
    listener.wait_for("WATCHDOG=1")


def test_it_has_started_once_it_has_subscribed(start: Start, listener: Listener) -> None:
    notices = start()
    notices.beat(is_moving=True, is_subscribed=False)
    notices.beat(is_moving=True, is_subscribed=True)
    notices.beat(is_moving=True, is_subscribed=True)
    listener.wait_for("READY=1")


def test_a_broker_that_is_down_does_not_keep_it_from_starting(
    start: Start, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices = start()
    notices.beat(is_moving=True, is_subscribed=False)
    monkeypatch.setattr(notices, "_ready_at", 0.0)
    notices.beat(is_moving=True, is_subscribed=False)
    listener.wait_for("READY=1")


def test_the_health_is_its_status(start: Start, listener: Listener) -> None:
    notices = start()
    listener.wait_for("STATUS=starting")
    notices.health = lambda: "not subscribed: the broker is down"
    listener.wait_for("STATUS=not subscribed: the broker is down")


def test_only_threads_that_move_keep_the_watchdog_quiet(
    start: Start, listener: Listener, stopping: threading.Event
) -> None:
    notices = start()
    notices.beat(is_moving=False, is_subscribed=True)
    # What the thread says in the turn in which the supervision began is read here.
    notices.health = lambda: "first look"
    listener.wait_for("STATUS=first look")
    notices.beat(is_moving=False, is_subscribed=True)
    notices.health = lambda: "second look"
    assert "WATCHDOG=1" not in listener.wait_for("STATUS=second look")
    notices.beat(is_moving=True, is_subscribed=True)
    listener.wait_for("WATCHDOG=1")


def test_it_says_when_it_stops(start: Start, listener: Listener, stopping: threading.Event) -> None:
    start()
    stopping.set()
    listener.wait_for("STOPPING=1")


def test_without_a_service_manager_no_thread_is_started(stopping: threading.Event) -> None:
    before = threading.active_count()
    notices = Notices(ServiceManager(), stopping)
    notices.beat(is_moving=True, is_subscribed=True)
    assert threading.active_count() == before
