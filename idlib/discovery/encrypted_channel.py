"""Asks a resolver over TLS or HTTPS, on connections that are kept for the next query."""

import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from idlib.discovery.channel import Channel, LostConnectionError
from idlib.discovery.tls_connection import TlsConnection, TlsStream, verifying_context
from idlib.discovery.tls_faults import Peer
from idlib.settings import EncryptedResolver, TlsResolver

# As many as look-ups of trusted names that the receiver makes at the same time.
_MAX_KEPT: Final = 8
_KEPT_SECONDS: Final = 30.0
# After a change of the network, a kept connection is silent; the rest of the time is for a new one.
_SECONDS_ON_KEPT: Final = 2.0
# A server with few connections left closes those whose answer takes long; it has the answer when it is asked again
# (RFC 7766, section 6.2.4).
_MAX_REPEATS: Final = 2


class Connection(Protocol):
    """A connection to a resolver, for one query at a time."""

    def exchange(self, query: bytes, deadline: float) -> bytes:
        """Return the bytes that the server answers to those of a query; see `Channel`."""

    def is_open(self) -> bool:
        """Return whether another query can be sent."""

    def close(self) -> None:
        """Close the connection."""


def open_channel(address: EncryptedResolver, authorities: Path | None) -> Channel:
    """Return the path to a resolver; nothing is connected yet.

    Args:
        address: DNS_RESOLVER.
        authorities: DNS_CA_FILE; None for the system's CAs.

    Raises:
        ConfigurationError: The file cannot be read or holds no certificate.
    """
    context = verifying_context(authorities)
    if isinstance(address, TlsResolver):
        peer = Peer(address.certified, address.port, _remedy(address))
        return PooledChannel(
            lambda deadline: TlsConnection(TlsStream.connect(address.address, peer, context, deadline)),
            lambda: secrets.randbelow(2**16),
        )
    # Imported late: only DNS over HTTPS needs HTTP/2.
    from idlib.discovery.https_connection import HttpsConnector

    # RFC 8484, section 4.1: always the same ID.
    return PooledChannel(HttpsConnector(address, context).connect, lambda: 0)


class PooledChannel:
    """A path to a resolver that keeps a few connections; see `Channel`.

    A query whose connection is lost before the answer is repeated on a new one.

    Args:
        connect: Opens a connection before a deadline; raises ChannelError.
        new_identifier: Returns the ID for a query.
    """

    def __init__(self, connect: Callable[[float], Connection], new_identifier: Callable[[], int]) -> None:
        self._connect = connect
        self.new_identifier = new_identifier
        self._kept = _KeptConnections()

    def exchange(self, query: bytes, deadline: float) -> bytes:
        """Return the bytes that the server answers to those of a query; see `Channel`."""
        kept = self._kept.take()
        if kept is not None:
            try:
                return self._ask(kept, query, min(deadline, time.monotonic() + _SECONDS_ON_KEPT))
            except LostConnectionError:
                # The others are of the same network.
                self._kept.clear()
        for _ in range(_MAX_REPEATS):
            connection = self._connect(deadline)
            try:
                return self._ask(connection, query, deadline)
            except LostConnectionError:
                if time.monotonic() >= deadline:
                    raise
        return self._ask(self._connect(deadline), query, deadline)

    def _ask(self, connection: Connection, query: bytes, deadline: float) -> bytes:
        try:
            answer = connection.exchange(query, deadline)
        except BaseException:
            connection.close()
            raise
        self._kept.put(connection)
        return answer


class _KeptConnections:
    """A few connections that wait for the next query; those that this process did not open are not used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: list[tuple[float, Connection]] = []
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._connections)

    def take(self) -> Connection | None:
        """Return an open connection, which the caller then owns; None if there is none."""
        while (connection := self._take_newest()) is not None:
            if connection.is_open():
                return connection
            connection.close()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection, or close it if there are enough."""
        with self._lock:
            if len(self._connections) < _MAX_KEPT and self._process == os.getpid():
                self._connections.append((time.monotonic(), connection))
                return
        connection.close()

    def clear(self) -> None:
        """Close all."""
        with self._lock:
            _close_all(self._connections)

    def _take_newest(self) -> Connection | None:
        with self._lock:
            if self._process != os.getpid():
                # Two processes must not share the state of one TLS session.
                _close_all(self._connections)
                self._process = os.getpid()
            since, connection = self._connections.pop() if self._connections else (0.0, None)
            if connection is not None and time.monotonic() - since > _KEPT_SECONDS:
                connection.close()
                _close_all(self._connections)
                return None
            return connection


def _close_all(connections: list[tuple[float, Connection]]) -> None:
    while connections:
        connections.pop()[1].close()


def _remedy(address: TlsResolver) -> str:
    if address.name is None:
        return "add # and the name that the resolver's operator publishes to DNS_RESOLVER"
    return "set the name after # in DNS_RESOLVER to the one that the resolver's operator publishes"
