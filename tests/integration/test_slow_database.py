"""A lease is renewed in time although each answer of the database takes long."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import pytest

from idlib.database_time import DatabaseTimekeeper
from idlib.settings.store_urls import read_store_url
from idlib.storage.postgresql import leases as leases_module
from idlib.storage.postgresql.clock import DatabaseClock
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.leases import Leases, new_holder
from messaging_receiver.durable_writes import DurableWrites
from messaging_receiver.group import membership as membership_module
from messaging_receiver.group.membership import Membership
from testbed.daemons.postgresql import Postgresql
from testbed.daemons.process import LOOPBACK

# A tenth of the seconds of a real group, in which a round trip then takes 1.5 s.
_ROUND_TRIP_SECONDS: Final = 0.15
_SECONDS: Final = {"LEASE_SECONDS": 1.5, "VALID_SECONDS": 1.2, "RENEWAL_SECONDS": 0.4}


class _SlowLink:
    """Forwards one connection to a port of loopback, and delays what the server answers by `seconds`."""

    def __init__(self, target: int) -> None:
        self.seconds = 0.0
        self._target = target
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection((LOOPBACK, self._target)) as server:
            asking = threading.Thread(target=_copy, args=(client, server, lambda: 0.0))
            asking.start()
            _copy(server, client, lambda: self.seconds)
            asking.join()


def _copy(source: socket.socket, sink: socket.socket, pause: Callable[[], float]) -> None:
    """Forward until the source ends."""
    with suppress(OSError):
        while portion := source.recv(65536):
            time.sleep(pause())
            sink.sendall(portion)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def link(postgresql: Postgresql) -> Iterator[_SlowLink]:
    link = _SlowLink(postgresql.port)
    yield link
    link.close()


def test_the_lease_stays_valid(postgresql: Postgresql, link: _SlowLink, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgresql.new_database().replace(postgresql.address, f"{LOOPBACK}:{link.port}")
    with PostgresDatabase(read_store_url(url)) as database:
        leases = Leases(database, new_holder(), lambda: "client id", time.monotonic)
        leases.prepare()
        timekeeper, writes = DatabaseTimekeeper(DatabaseClock(database)), DurableWrites(threading.Event(), lambda: None)
        membership = Membership(leases, leases.take(), timekeeper, writes)
        for name, value in _SECONDS.items():
            monkeypatch.setattr(leases_module, name, value)
        monkeypatch.setattr(membership_module, "RENEWAL_SECONDS", _SECONDS["RENEWAL_SECONDS"])
        link.seconds = _ROUND_TRIP_SECONDS
        assert leases.renew()
        term = leases.term
        assert term is not None
        membership.start()
        for _ in range(30):
            assert leases.term == term
            time.sleep(0.1)
        link.seconds = 0.0
        membership.end()
