import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from idlib.errors import TemporaryDiscoveryError
from testbed.scripted_tls import Converse, ScriptedTls
from testbed.server_certificates import ServerAuthority
from tests.idlib.discovery.encrypted import (
    HEADERS,
    QUESTION,
    Respond,
    answer_to,
    answering,
    over_http,
    over_https,
    respond_well,
)

Files = tuple[Path, Path]
Http = h2.connection.H2Connection


def failure(files: Files, authority: ServerAuthority, converse: Converse, *protocols: str) -> TemporaryDiscoveryError:
    with (
        ScriptedTls(files, converse, protocols or ("h2",)) as server,
        pytest.raises(TemporaryDiscoveryError) as caught,
    ):
        over_https(server.port, authority, seconds=2).ask(QUESTION)
    assert caught.value.hint
    return caught.value


def test_a_query_is_sent_as_rfc_8484_says(authority: ServerAuthority, certified: Files) -> None:
    requests: list[dict[object, object]] = []
    bodies: list[bytes] = []

    def converse(connection: ssl.SSLSocket) -> None:
        http = Http(h2.config.H2Configuration(client_side=False, header_encoding="ascii"))
        http.initiate_connection()
        while data := connection.recv(65536):
            for event in http.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        requests.append(dict(event.headers))
                    case h2.events.DataReceived():
                        bodies.append(event.data)
                        respond_well(http, event.stream_id, event.data)
            connection.sendall(http.data_to_send())

    with ScriptedTls(certified, converse, ["h2"]) as server:
        reply = over_https(server.port, authority).ask(QUESTION)
    assert [record.rdata for record in reply.answer.records] == [b"\x03\0\0\xab"]
    assert requests == [
        {
            ":method": "POST",
            ":scheme": "https",
            ":authority": f"127.0.0.1:{server.port}",
            ":path": "/dns-query",
            "accept": "application/dns-message",
            "content-type": "application/dns-message",
            "content-length": "128",
        }
    ]
    assert [(body[:2], len(body)) for body in bodies] == [(b"\0\0", 128)]


def test_queries_share_a_connection(authority: ServerAuthority, certified: Files) -> None:
    with ScriptedTls(certified, over_http(respond_well), ["h2"]) as server:
        resolver = over_https(server.port, authority)
        for _ in range(3):
            assert resolver.ask(QUESTION).name_exists
        assert server.connections == 1


def _goodbye_after_answer(http: Http, stream: int, body: bytes) -> None:
    respond_well(http, stream, body)
    http.close_connection()


@pytest.mark.parametrize(
    "converse", [over_http(respond_well, limit=1), over_http(_goodbye_after_answer)], ids=["close", "goodbye"]
)
def test_a_connection_that_the_server_has_ended_is_replaced(
    authority: ServerAuthority, certified: Files, converse: Converse
) -> None:
    with ScriptedTls(certified, converse, ["h2"]) as server:
        resolver = over_https(server.port, authority)
        for _ in range(3):
            assert resolver.ask(QUESTION).name_exists
        assert server.connections == 3


def test_many_large_answers_come_over_one_connection(authority: ServerAuthority, certified: Files) -> None:
    """The receiving window of the connection, 65535 bytes, must be opened again and again."""
    padding = b"\0" * 30000

    def respond(http: Http, stream: int, body: bytes) -> None:
        http.send_headers(stream, HEADERS)
        message = answer_to(body) + padding
        for start in range(0, len(message), 16384):
            http.send_data(stream, message[start : start + 16384], end_stream=start + 16384 >= len(message))

    with ScriptedTls(certified, over_http(respond), ["h2"]) as server:
        resolver = over_https(server.port, authority)
        for _ in range(6):
            with pytest.raises(TemporaryDiscoveryError, match="its answer has bytes left over"):
                resolver.ask(QUESTION)
        assert server.connections == 1


def _status(status: int | str) -> Respond:
    def respond(http: Http, stream: int, _body: bytes) -> None:
        http.send_headers(stream, [(":status", str(status)), ("location", "https://elsewhere.example.test/")])
        http.send_data(stream, b"an explanation", end_stream=True)

    return respond


def _page(http: Http, stream: int, _body: bytes) -> None:
    http.send_headers(stream, [(":status", "200"), ("content-type", "text/html; charset=utf-8")])
    http.send_data(stream, b"<html>", end_stream=True)


def _reset(http: Http, stream: int, _body: bytes) -> None:
    http.reset_stream(stream)


def _goodbye(http: Http, _stream: int, _body: bytes) -> None:
    http.close_connection()


def _empty(http: Http, stream: int, _body: bytes) -> None:
    http.send_headers(stream, HEADERS, end_stream=True)


@pytest.mark.parametrize(
    ("respond", "fact", "hint"),
    [
        (
            _status(301),
            "a redirect (HTTP status 301), which is not followed",
            "the address that the",
        ),
        (_status(404), "answers with HTTP status 404", "check the path in DNS_RESOLVER"),
        (_status(429), "answers with HTTP status 429", "this network has asked too often"),
        (_status(503), "answers with HTTP status 503", "try again"),
        (_status("2" * 5000), "answers with HTTP status 0", "try again"),
        (_page, "something other than a DNS message, by its content type", "no DNS server is there"),
        (_reset, "broke off its answer", "try again"),
        (_goodbye, "closed the connection without an answer", "try again"),
        (_empty, "gives no usable answer: what it sent is not a DNS message", "check the network"),
    ],
    ids=["redirect", "not found", "too many", "unavailable", "endless status", "page", "reset", "goodbye", "empty"],
)
def test_an_answer_that_is_no_dns_message_is_explained(
    authority: ServerAuthority, certified: Files, respond: Respond, fact: str, hint: str
) -> None:
    error = failure(certified, authority, over_http(respond))
    assert fact in error.fact
    assert hint in error.hint


def _raw(send: Callable[[ssl.SSLSocket, Http], None]) -> Converse:
    """Return what answers the first request as it likes."""

    def converse(connection: ssl.SSLSocket) -> None:
        http = Http(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        connection.sendall(http.data_to_send())
        while not any(isinstance(one, h2.events.StreamEnded) for one in http.receive_data(connection.recv(65536))):
            pass
        send(connection, http)

    return converse


def _dribble(connection: ssl.SSLSocket, http: Http) -> None:
    http.send_headers(1, HEADERS)
    connection.sendall(http.data_to_send())
    over = threading.Event()
    while not over.wait(0.02):
        http.send_data(1, b"\0")
        connection.sendall(http.data_to_send())


def _too_large(connection: ssl.SSLSocket, http: Http) -> None:
    http.send_headers(1, HEADERS)
    connection.sendall(http.data_to_send())
    while True:
        while http.local_flow_control_window(1) < 16384:
            data = connection.recv(65536)
            if not data:
                return
            http.receive_data(data)
        http.send_data(1, b"\0" * 16384)
        connection.sendall(http.data_to_send())


def _pings(connection: ssl.SSLSocket, http: Http) -> None:
    while True:
        for _ in range(1000):
            http.ping(b"12345678")
        connection.sendall(http.data_to_send())
        # Its answers are read, so that only the client's limit ends this.
        connection.settimeout(0.001)
        try:
            connection.recv(65536)
        except TimeoutError:
            continue


def _large_headers(connection: ssl.SSLSocket, http: Http) -> None:
    http.send_headers(1, [*HEADERS, *((f"x-{number}", "a" * 1000) for number in range(20))])
    connection.sendall(http.data_to_send())
    connection.recv(65536)


def _garbage(connection: ssl.SSLSocket, _http: Http) -> None:
    # A DATA frame of no stream (RFC 9113, section 6.1).
    connection.sendall(b"\0\0\x01\0\0\0\0\0\0x")
    connection.recv(65536)


def _promise(connection: ssl.SSLSocket, _http: Http) -> None:
    # A PUSH_PROMISE frame (RFC 9113, section 6.6), which the client's settings forbid.
    connection.sendall(b"\0\0\x05\x05\x04\0\0\0\x01\0\0\0\x02\x82")
    connection.recv(65536)


@pytest.mark.parametrize(
    ("send", "fact"),
    [
        (_dribble, "did not answer in time"),
        (_too_large, "answers with more than 65535 bytes"),
        (_pings, "sends more than 262144 bytes for one answer"),
        (_large_headers, "breaks the rules of HTTP/2"),
        (_garbage, "breaks the rules of HTTP/2"),
        (_promise, "breaks the rules of HTTP/2"),
    ],
    ids=["dribble", "too large", "pings", "large headers", "garbage", "promise"],
)
def test_a_hostile_server_only_fails_the_look_up(
    authority: ServerAuthority, certified: Files, send: Callable[[ssl.SSLSocket, Http], None], fact: str
) -> None:
    assert fact in failure(certified, authority, _raw(send)).fact


@pytest.mark.parametrize("protocol", ["http/1.1", "dot"])
def test_a_server_without_http_2_is_reported(authority: ServerAuthority, certified: Files, protocol: str) -> None:
    error = failure(certified, authority, answering(), protocol)
    assert "does not offer HTTP/2" in error.fact
