import socket
import threading
from contextlib import ExitStack

import pytest

from idlib.errors import TransportError
from idlib.settings import ServerAddress
from lab import broker
from lab.eavesdropper import Eavesdropper


def test_every_subscriber_gets_each_message() -> None:
    topic = "bob._device.example.test"
    with (
        broker.running() as address,
        Eavesdropper(address, topic) as first,
        Eavesdropper(address, topic) as second,
        Eavesdropper(address, "alice._device.example.test") as other,
    ):
        other.publish(b"for alice")
        first.publish(b"\x00one")
        first.publish(b"two")
        assert [first.next_payload(), first.next_payload()] == [b"\x00one", b"two"]
        assert [second.next_payload(), second.next_payload()] == [b"\x00one", b"two"]
        assert other.next_payload() == b"for alice"


def test_the_broker_writes_no_file_and_leaves_no_thread(capfd: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    with broker.running() as address, Eavesdropper(address, "a.b"):
        pass
    assert capfd.readouterr() == ("", "")
    assert threading.active_count() == threads


def test_the_broker_stops_with_open_sessions_and_connections(capfd: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as clients:
        with broker.running() as address:
            clients.enter_context(Eavesdropper(address, "a.b"))
            silent = clients.enter_context(socket.create_connection((address.address, address.port), timeout=5))
        assert silent.recv(1) == b""
    assert capfd.readouterr() == ("", "")


def test_a_missing_broker_is_reported() -> None:
    with broker.running() as address:
        pass
    with pytest.raises(TransportError, match=str(address)), Eavesdropper(address, "a.b"):
        pass


def test_the_broker_listens_only_on_loopback() -> None:
    with broker.running() as address:
        assert address == ServerAddress("127.0.0.1", address.port)
