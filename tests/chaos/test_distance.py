"""The relay that delays the answers of a name server."""

import socket
import time
from collections.abc import Iterator

import dns.exception
import dns.message
import dns.query
import pytest

from chaos.distance import Distance
from testbed.daemons.process import LOOPBACK, free_port
from testbed.name_server import Server

DELAY = 0.2


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(lambda query, over_tcp: [dns.message.make_response(query).to_wire()])
    yield server
    server.close()


@pytest.fixture
def distance(server: Server) -> Iterator[Distance]:
    with Distance(server.address.port, free_port(), lambda: DELAY) as distance:
        yield distance


def ask(distance: Distance, *, over_tcp: bool, timeout: float = 10) -> float:
    query = dns.message.make_query("device.example.test", "TLSA")
    transport = dns.query.tcp if over_tcp else dns.query.udp
    begun_at = time.monotonic()
    response = transport(query, LOOPBACK, timeout, distance.port)
    assert response.id == query.id
    return time.monotonic() - begun_at


@pytest.mark.parametrize("over_tcp", [False, True])
def test_an_answer_is_delayed_and_unchanged(distance: Distance, over_tcp: bool) -> None:  # noqa: FBT001
    for _ in range(3):
        assert ask(distance, over_tcp=over_tcp) >= DELAY


@pytest.mark.parametrize("over_tcp", [False, True])
def test_no_answer_comes_until_the_silence_is_ended(distance: Distance, over_tcp: bool) -> None:  # noqa: FBT001
    distance.fall_silent()
    with pytest.raises(dns.exception.Timeout):
        ask(distance, over_tcp=over_tcp, timeout=3 * DELAY)
    distance.speak()
    assert ask(distance, over_tcp=over_tcp) >= DELAY


def test_many_answers_are_delayed_at_the_same_time(server: Server, distance: Distance) -> None:
    queries = [dns.message.make_query(f"device-{number}.example.test", "TLSA") for number in range(20)]
    begun_at = time.monotonic()
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        for query in queries:
            client.sendto(query.to_wire(), (LOOPBACK, distance.port))
        answered = {dns.message.from_wire(client.recv(65535)).id for _ in queries}
    assert answered == {query.id for query in queries}
    assert DELAY <= time.monotonic() - begun_at < len(queries) * DELAY
