"""Servers of DNS over TLS and HTTPS for tests, and resolvers that ask them."""

import itertools
import ssl
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.rrset
import h2.config
import h2.connection
import h2.events

from idlib.discovery.encrypted_channel import open_channel
from idlib.discovery.messages import Question
from idlib.discovery.resolver import Resolver, Server
from idlib.names import IdentityName
from idlib.settings import EncryptedResolver, HttpsResolver, TlsResolver
from testbed.daemons.process import LOOPBACK
from testbed.scripted_tls import Converse
from testbed.server_certificates import ServerAuthority

QUESTION = Question.about(IdentityName("alice._device.example.test"))
HEADERS = [(":status", "200"), ("content-type", "application/dns-message")]

Respond = Callable[[h2.connection.H2Connection, int, bytes], None]


def answer_to(query: bytes) -> bytes:
    asked = dns.message.from_wire(query)
    response = dns.message.make_response(asked)
    response.answer.append(dns.rrset.from_text(asked.question[0].name, 300, "IN", "TLSA", "3 0 0 AB"))
    return response.to_wire()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2) + message


def read_query(connection: ssl.SSLSocket) -> bytes:
    """Return the next query; empty if the client has closed the connection."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2]):
        part = connection.recv(4096)
        if not part:
            return b""
        data += part
    return data[2:]


def answering(limit: int | None = None) -> Converse:
    """Return what answers queries over TLS, and closes the connection after some of them."""

    def converse(connection: ssl.SSLSocket) -> None:
        for _ in itertools.count() if limit is None else range(limit):
            query = read_query(connection)
            if not query:
                return
            connection.sendall(framed(answer_to(query)))

    return converse


def over_http(respond: Respond, limit: int | None = None) -> Converse:
    """Return what speaks HTTP/2; `respond` gets the connection, the stream and the body of each request."""

    def converse(connection: ssl.SSLSocket) -> None:
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        connection.sendall(http.data_to_send())
        bodies: dict[int, bytes] = {}
        answered = 0
        while answered != limit:
            data = connection.recv(65536)
            if not data or http.state_machine.state is h2.connection.ConnectionState.CLOSED:
                return
            for event in http.receive_data(data):
                match event:
                    case h2.events.DataReceived():
                        bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    case h2.events.StreamEnded():
                        respond(http, event.stream_id, bodies[event.stream_id])
                        answered += 1
            connection.sendall(http.data_to_send())

    return converse


def respond_well(http: h2.connection.H2Connection, stream: int, body: bytes) -> None:
    http.send_headers(stream, HEADERS)
    http.send_data(stream, answer_to(body), end_stream=True)


def resolver_of(address: EncryptedResolver, authorities: Path | None, seconds: float = 20) -> Resolver:
    server = Server(address, trusted=True, channel=open_channel(address, authorities))
    return Resolver(lambda: [server], seconds)


def over_tls(port: int, authority: ServerAuthority, name: str | None = None, seconds: float = 20) -> Resolver:
    return resolver_of(TlsResolver(LOOPBACK, port, name), authority.file, seconds)


def over_https(port: int, authority: ServerAuthority, seconds: float = 20) -> Resolver:
    return resolver_of(HttpsResolver(LOOPBACK, port), authority.file, seconds)
