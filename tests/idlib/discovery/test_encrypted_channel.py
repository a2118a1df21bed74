import os
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from idlib.discovery import encrypted_channel
from idlib.discovery.tls_connection import TlsConnection, TlsStream, verifying_context
from idlib.discovery.tls_faults import Peer
from idlib.errors import TemporaryDiscoveryError
from testbed.lab import wait_until
from testbed.scripted_tls import ScriptedTls
from testbed.server_certificates import ServerAuthority
from tests.idlib.discovery.encrypted import QUESTION, answer_to, answering, framed, over_tls, read_query

Files = tuple[Path, Path]


def test_queries_share_a_connection(authority: ServerAuthority, certified: Files) -> None:
    with ScriptedTls(certified, answering()) as server:
        resolver = over_tls(server.port, authority)
        for _ in range(3):
            assert resolver.ask(QUESTION).name_exists
        assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_replaced(authority: ServerAuthority, certified: Files) -> None:
    with ScriptedTls(certified, answering(limit=1)) as server:
        resolver = over_tls(server.port, authority)
        for _ in range(3):
            assert resolver.ask(QUESTION).name_exists
        assert server.connections == 3


def _answers_once_then(connection: ssl.SSLSocket, waits: threading.Event | None) -> None:
    connection.sendall(framed(answer_to(read_query(connection))))
    if read_query(connection) and waits is not None:
        waits.wait(20)


def test_a_query_is_repeated_if_the_server_closes_while_it_is_asked(
    authority: ServerAuthority, certified: Files
) -> None:
    with ScriptedTls(certified, lambda connection: _answers_once_then(connection, None)) as server:
        resolver = over_tls(server.port, authority)
        assert resolver.ask(QUESTION).name_exists
        assert resolver.ask(QUESTION).name_exists
        assert server.connections == 2


def test_a_query_is_repeated_if_a_kept_connection_is_silent(
    authority: ServerAuthority, certified: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encrypted_channel, "_SECONDS_ON_KEPT", 0.1)
    over = threading.Event()
    with ScriptedTls(certified, lambda connection: _answers_once_then(connection, over)) as server:
        resolver = over_tls(server.port, authority)
        assert resolver.ask(QUESTION).name_exists
        assert resolver.ask(QUESTION).name_exists
        over.set()
        assert server.connections == 2


@pytest.mark.parametrize("closed", [1, 2])
def test_a_query_is_repeated_if_the_server_closes_new_connections(
    authority: ServerAuthority, certified: Files, closed: int
) -> None:
    """As Unbound does while most of its connections are in use, and an answer takes longer than 0.2 seconds."""
    asked: list[bytes] = []

    def converse(connection: ssl.SSLSocket) -> None:
        asked.append(read_query(connection))
        if len(asked) > closed:
            connection.sendall(framed(answer_to(asked[-1])))

    with ScriptedTls(certified, converse) as server:
        assert over_tls(server.port, authority).ask(QUESTION).name_exists
        assert server.connections == closed + 1


def _closes_after_query(connection: ssl.SSLSocket) -> None:
    read_query(connection)


def test_a_query_is_repeated_twice_at_most(authority: ServerAuthority, certified: Files) -> None:
    with ScriptedTls(certified, _closes_after_query) as server:
        with pytest.raises(TemporaryDiscoveryError, match="closed the connection without an answer"):
            over_tls(server.port, authority).ask(QUESTION)
        assert server.connections == 3


@pytest.mark.parametrize("changed", ["time", "process"])
def test_a_connection_that_is_old_or_of_another_process_is_not_used(
    authority: ServerAuthority, certified: Files, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    with ScriptedTls(certified, answering()) as server:
        resolver = over_tls(server.port, authority)
        assert resolver.ask(QUESTION).name_exists
        if changed == "time":
            monkeypatch.setattr(encrypted_channel, "_KEPT_SECONDS", -1)
        else:
            monkeypatch.setattr(os, "getpid", lambda: -1)
        assert resolver.ask(QUESTION).name_exists
        assert server.connections == 2


def test_only_a_few_connections_are_kept(authority: ServerAuthority, certified: Files) -> None:
    together = threading.Barrier(10)

    def converse(connection: ssl.SSLSocket) -> None:
        while query := read_query(connection):
            if not together.broken:
                together.wait(20)
            connection.sendall(framed(answer_to(query)))

    with ScriptedTls(certified, converse) as server, ThreadPoolExecutor(10) as threads:
        resolver = over_tls(server.port, authority)
        asked = [threads.submit(resolver.ask, QUESTION) for _ in range(10)]
        assert all(one.result(30).name_exists for one in asked)
        kept = resolver._servers()[0].channel._kept._connections  # type: ignore[union-attr]
        assert server.connections == 10
        assert len(kept) == encrypted_channel._MAX_KEPT


class Ended:
    """A connection that the server ends after an answer."""

    def exchange(self, query: bytes, deadline: float) -> bytes:
        assert deadline > time.monotonic()
        return query

    def is_open(self) -> bool:
        return False

    def close(self) -> None:
        pass


def test_a_connection_is_looked_at_before_a_query_is_sent_on_it() -> None:
    """Otherwise the query would be sent twice, and the connections beside this one would be closed."""
    opened: list[Ended] = []

    def connect(_: float) -> Ended:
        opened.append(Ended())
        return opened[-1]

    channel = encrypted_channel.PooledChannel(connect, lambda: 0)
    for _ in range(2):
        assert channel.exchange(b"query", time.monotonic() + 20) == b"query"
    assert len(opened) == 2


def test_a_connection_over_tls_is_seen_to_be_closed(authority: ServerAuthority, certified: Files) -> None:
    deadline = time.monotonic() + 20
    with ScriptedTls(certified, answering(limit=1)) as server:
        peer = Peer("127.0.0.1", server.port, "")
        stream = TlsStream.connect("127.0.0.1", peer, verifying_context(authority.file), deadline)
        connection = TlsConnection(stream)
        assert connection.is_open()
        assert connection.exchange(QUESTION.to_wire(7), deadline)
        wait_until(lambda: not connection.is_open(), "end of the connection")
        connection.close()
