"""The datagrams to a service manager, on real sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.system.service_manager import ServiceManager, take_service_manager


class Listener:
    """A socket on which a service manager listens.

    Args:
        address: As in NOTIFY_SOCKET.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(0)

    def heard(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@dane-messenger-test-{os.getpid()}"
    one = Listener(address)
    yield one
    one.socket.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_event_is_one_datagram(listener: Listener) -> None:
    manager = ServiceManager(listener.address)
    assert manager.is_there
    manager.ready()
    manager.status("ok: waiting")
    manager.stopping()
    assert listener.heard() == ["READY=1", "STATUS=ok: waiting", "STOPPING=1"]


def test_what_was_said_is_not_repeated(listener: Listener) -> None:
    manager = ServiceManager(listener.address)
    for _ in range(2):
        manager.ready()
        manager.status("ok: one")
    manager.status("ok: two")
    manager.status("ok: one")
    assert listener.heard() == ["READY=1", "STATUS=ok: one", "STATUS=ok: two", "STATUS=ok: one"]


def test_the_watchdog_hears_three_times_as_often_as_it_must(listener: Listener) -> None:
    clock = Clock()
    manager = ServiceManager(listener.address, 30.0, clock)
    assert manager.pause == 10.0
    for clock.now in (1000.0, 1000.5, 1009.9, 1010.0, 1010.1, 1020.0):
        manager.beat()
    assert listener.heard() == ["WATCHDOG=1"] * 3


def test_without_a_watchdog_there_is_no_beat(listener: Listener) -> None:
    manager = ServiceManager(listener.address)
    manager.beat()
    assert manager.pause is None
    assert listener.heard() == []


@given(st.text(max_size=300))
def test_a_status_is_one_line_of_printable_ascii(text: str) -> None:
    one = Listener(f"@dane-messenger-status-{os.getpid()}")
    try:
        ServiceManager(one.address).status(text)
        heard = one.heard()
    finally:
        one.socket.close()
    assert len(heard) == (1 if text else 0)
    assert all(line.isascii() and line.isprintable() and len(line) <= 207 for line in heard)


def gone(directory: Path) -> str:
    return str(directory / "gone")


def not_a_socket(directory: Path) -> str:
    (directory / "file").touch()
    return str(directory / "file")


def full(directory: Path) -> str:
    one = Listener(str(directory / "full"))
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.settimeout(0)
    try:
        while True:
            sender.sendto(b"x", one.address)
    except BlockingIOError:
        sender.close()
    # Open until the test ends.
    LISTENERS.append(one)
    return one.address


LISTENERS: list[Listener] = []


@pytest.mark.parametrize("address", [gone, not_a_socket, full])
def test_a_service_manager_that_does_not_listen_does_no_harm(address: Callable[[Path], str], tmp_path: Path) -> None:
    manager = ServiceManager(address(tmp_path), 1.0)
    manager.ready()
    manager.beat()
    manager.status("ok: waiting")
    manager.stopping()
    while LISTENERS:
        LISTENERS.pop().socket.close()


def test_what_could_not_be_said_is_said_later(tmp_path: Path) -> None:
    manager = ServiceManager(str(tmp_path / "notify"))
    manager.ready()
    manager.status("ok: waiting")
    listener = Listener(str(tmp_path / "notify"))
    manager.ready()
    manager.status("ok: waiting")
    assert listener.heard() == ["READY=1", "STATUS=ok: waiting"]
    listener.socket.close()


def test_no_process_that_the_service_starts_can_speak_for_it(listener: Listener) -> None:
    environment = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/root"}
    take_service_manager(environment)
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("given_", "pause"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        # Of another process, which has passed its environment on to this one.
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_read_from_the_environment(given_: dict[str, str], pause: float | None) -> None:
    manager = take_service_manager({"NOTIFY_SOCKET": "/run/systemd/notify", **given_})
    assert manager.is_there
    assert manager.pause == pause


@pytest.mark.parametrize(
    "address", ["", "@", "/", "notify", "vsock:2:1234", "/" + "x" * 107, "é", "relative/path"], ids=ascii
)
def test_an_address_that_is_not_a_unix_socket_is_ignored(address: str) -> None:
    manager = take_service_manager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert not manager.is_there
    assert manager.pause is None


@given(st.dictionaries(st.sampled_from(["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]), st.text(max_size=120)))
def test_any_environment_can_be_read(environment: dict[str, str]) -> None:
    manager = take_service_manager(environment)
    assert environment == {}
    assert manager.pause is None or manager.pause > 0


def test_it_loads_no_large_module() -> None:
    loaded = "import sys, idlib.system.service_manager; print([one for one in sys.modules if one in %r])"
    heavy = ("argparse", "logging", "subprocess", "asyncio", "json", "typing_extensions", "cryptography")
    done = subprocess.run([sys.executable, "-c", loaded % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
