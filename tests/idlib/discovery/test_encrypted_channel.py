import os
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from idlib.discovery import encrypted_channel
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
    together = threading.Barrier(6)

    def converse(connection: ssl.SSLSocket) -> None:
        while query := read_query(connection):
            if not together.broken:
                together.wait(20)
            connection.sendall(framed(answer_to(query)))

    with ScriptedTls(certified, converse) as server, ThreadPoolExecutor(6) as threads:
        resolver = over_tls(server.port, authority)
        asked = [threads.submit(resolver.ask, QUESTION) for _ in range(6)]
        assert all(one.result(30).name_exists for one in asked)
        kept = resolver._servers()[0].channel._kept._connections  # type: ignore[union-attr]
        assert server.connections == 6
        assert len(kept) == encrypted_channel._MAX_KEPT
