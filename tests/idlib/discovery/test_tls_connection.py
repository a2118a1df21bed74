import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from idlib.discovery.resolver import Resolver
from idlib.discovery.tls_connection import verifying_context
from idlib.errors import ConfigurationError, TemporaryDiscoveryError
from testbed.daemons.process import LOOPBACK, free_port
from testbed.scripted_tls import Converse, ScriptedTls
from testbed.server_certificates import ServerAuthority
from tests.idlib.discovery.encrypted import QUESTION, answering, framed, over_tls, read_query

NAME = "dns.example.test"
Files = tuple[Path, Path]


def failure(resolver: Resolver) -> TemporaryDiscoveryError:
    with pytest.raises(TemporaryDiscoveryError) as caught:
        resolver.ask(QUESTION)
    return caught.value


@pytest.mark.parametrize("name", [None, NAME])
def test_a_certificate_for_the_name_or_else_the_address_is_accepted(
    authority: ServerAuthority, certified: Files, name: str | None
) -> None:
    with ScriptedTls(certified, answering()) as server:
        reply = over_tls(server.port, authority, name).ask(QUESTION)
    assert reply.server.trusted
    assert [record.rdata for record in reply.answer.records] == [b"\x03\0\0\xab"]


def test_the_size_of_a_query_does_not_tell_the_length_of_the_name(authority: ServerAuthority, certified: Files) -> None:
    queries: list[bytes] = []

    def converse(connection: ssl.SSLSocket) -> None:
        queries.append(read_query(connection))

    with ScriptedTls(certified, converse) as server:
        failure(over_tls(server.port, authority))
    assert {len(query) for query in queries} == {128}


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("names", "days", "fact", "hint"),
    [
        (
            ["other.example.test", "127.0.0.2"],
            (-1, 1),
            "shows a certificate that is not for dns.example.test",
            (
                "set the name after # in DNS_RESOLVER to the one that the resolver's operator publishes;"
                " if it is right, something on the path answers in its place"
            ),
        ),
        (
            [NAME],
            (-9, -2),
            "shows a certificate that has expired by {today}",
            (
                "check the clock of this device, with which no server can be verified until it is right;"
                " if it is right, the resolver's operator must renew the certificate"
            ),
        ),
        (
            [NAME],
            (2, 9),
            "shows a certificate that is not valid yet on {today}",
            "check the clock of this device, with which no server can be verified until it is right",
        ),
    ],
    ids=["for another name", "expired", "not yet valid"],
)
def test_a_certificate_that_proves_nothing_is_rejected(
    authority: ServerAuthority, names: list[str], days: tuple[int, int], fact: str, hint: str
) -> None:
    now = datetime.now(UTC)
    files = authority.issue(*names, since=now + days[0] * DAY, until=now + days[1] * DAY)
    with ScriptedTls(files, answering()) as server:
        error = failure(over_tls(server.port, authority, NAME))
    said = fact.format(today=datetime.now(UTC).date())
    assert error.fact == f"the DNS server tls://127.0.0.1:{server.port}#{NAME} {said} (asked for {QUESTION})"
    assert error.hint == hint


def test_a_certificate_for_a_name_is_not_one_for_the_address(authority: ServerAuthority) -> None:
    with ScriptedTls(authority.issue(NAME), answering()) as server:
        error = failure(over_tls(server.port, authority))
    assert "shows a certificate that is not for 127.0.0.1" in error.fact
    assert error.hint.startswith("add # and the name that the resolver's operator publishes to DNS_RESOLVER;")


def test_a_name_in_the_subject_only_is_not_enough(authority: ServerAuthority) -> None:
    with ScriptedTls(authority.issue(), answering()) as server:
        assert "is not for server" in failure(over_tls(server.port, authority, "server")).fact


def test_a_certificate_of_another_authority_is_rejected(tmp_path: Path, certified: Files) -> None:
    with ScriptedTls(certified, answering()) as server:
        error = failure(over_tls(server.port, ServerAuthority(tmp_path), NAME))
    assert "shows a certificate that no trusted CA has issued" in error.fact
    assert "DNS_CA_FILE" in error.hint


def test_the_servers_own_certificate_can_be_named_instead_of_a_ca(authority: ServerAuthority, certified: Files) -> None:
    with ScriptedTls(certified, answering()) as server:
        itself = ServerAuthority.__new__(ServerAuthority)
        itself.file = certified[0]
        assert over_tls(server.port, itself, NAME).ask(QUESTION).name_exists


def test_an_old_version_of_tls_is_rejected(authority: ServerAuthority, certified: Files) -> None:
    def only_old(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.minimum_version = ssl.TLSVersion.TLSv1_1

    with (
        pytest.warns(DeprecationWarning, match="TLSv1_1"),
        ScriptedTls(certified, answering(), change=only_old) as server,
    ):
        error = failure(over_tls(server.port, authority))
    assert "does not offer TLS 1.2 or newer" in error.fact


def test_a_port_without_a_listener_is_reported(authority: ServerAuthority) -> None:
    error = failure(over_tls(free_port(), authority))
    assert "cannot be reached: Connection refused" in error.fact
    assert "check the address" in error.hint


@pytest.fixture
def plain() -> Iterator[Callable[[bytes | None], int]]:
    """Yield a function that starts a server without TLS, which sends bytes or nothing, and returns its port."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []
    over = threading.Event()

    def serve(listener: socket.socket, data: bytes | None) -> None:
        connection, _ = listener.accept()
        with connection:
            if data is None:
                over.wait(20)
            elif data:
                connection.recv(4096)
                connection.sendall(data)

    def start(data: bytes | None) -> int:
        listener = socket.create_server((LOOPBACK, 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, data)))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    over.set()
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("data", "fact", "hint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not use TLS at this port", "check the port in DNS_RESOLVER"),
        (b"", "the TLS handshake", "check the port in DNS_RESOLVER"),
        (None, "does not answer the TLS handshake in time", "a server of DNS in clear text may use port"),
    ],
    ids=["other bytes", "closes", "silent"],
)
def test_a_server_without_tls_is_reported(
    authority: ServerAuthority, plain: Callable[[bytes | None], int], data: bytes | None, fact: str, hint: str
) -> None:
    error = failure(over_tls(plain(data), authority, seconds=20 if data is not None else 0.3))
    assert fact in error.fact
    assert hint in error.hint


def _dribble(connection: ssl.SSLSocket) -> None:
    read_query(connection)
    connection.sendall(b"\xff\xff")
    over = threading.Event()
    while not over.wait(0.02):
        connection.sendall(b"\0")


def _close(connection: ssl.SSLSocket) -> None:
    read_query(connection)
    connection.sendall(b"\0\x20short")


def _garbage(connection: ssl.SSLSocket) -> None:
    read_query(connection)
    connection.sendall(framed(b"garbage"))


def _nothing(connection: ssl.SSLSocket) -> None:
    read_query(connection)
    read_query(connection)


@pytest.mark.parametrize(
    ("converse", "fact"),
    [
        (_dribble, "did not answer in time"),
        (_nothing, "did not answer in time"),
        (_close, "closed the connection without an answer"),
        (_garbage, "gives no usable answer: what it sent is not a DNS message"),
    ],
    ids=["a byte at a time", "nothing", "half an answer", "garbage"],
)
def test_a_hostile_server_only_fails_the_look_up(
    authority: ServerAuthority, certified: Files, converse: Converse, fact: str
) -> None:
    with ScriptedTls(certified, converse) as server:
        assert fact in failure(over_tls(server.port, authority, seconds=0.5)).fact


def test_a_file_of_authorities_that_cannot_be_used_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"DNS_CA_FILE: '.*ca\.pem' cannot be read: No such file"):
        verifying_context(tmp_path / "ca.pem")
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(ConfigurationError, match=r"DNS_CA_FILE: '.*ca\.pem' holds no certificate in PEM form"):
        verifying_context(tmp_path / "ca.pem")
