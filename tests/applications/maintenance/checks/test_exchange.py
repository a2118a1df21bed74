from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from dns.rdatatype import RdataType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.discovery.messages import Question
from idlib.errors import TemporaryDiscoveryError
from idlib.settings import ServerAddress
from messaging_maintenance.checks.exchange import ask_over_tcp, ask_over_udp, why_silent, why_silent_over_tcp
from testbed.daemons.process import free_port
from testbed.name_server import Respond, Server

QUESTION = Question(dns.name.from_text("alice._device.example.test"), RdataType.TLSA)


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], Server]]:
    servers: list[Server] = []

    def start(respond: Respond) -> Server:
        servers.append(Server(respond))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def refusing(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.REFUSED)
    return [response.to_wire()]


def test_the_flags_and_the_size_are_those_of_the_answer(serve: Callable[[Respond], Server]) -> None:
    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = dns.message.make_response(query, our_payload=1400)
        response.flags |= dns.flags.RA if over_tcp else dns.flags.AA
        return [response.to_wire()]

    server = serve(respond).address
    udp, tcp = ask_over_udp(server, QUESTION), ask_over_tcp(server, QUESTION)
    assert (udp.is_authoritative, udp.offers_recursion, udp.edns_payload) == (True, False, 1400)
    assert (tcp.is_authoritative, tcp.offers_recursion) == (False, True)
    assert udp.size == tcp.size == len(respond(dns.message.from_wire(QUESTION.to_wire(1)), False)[0])  # noqa: FBT003


def test_a_server_that_refuses_is_not_silent(serve: Callable[[Respond], Server]) -> None:
    server = serve(refusing).address
    assert ask_over_udp(server, QUESTION).code == "REFUSED"
    assert why_silent(server) == why_silent_over_tcp(server) == ""


def test_a_port_without_a_server_is_told_apart_from_one_that_says_nothing(
    serve: Callable[[Respond], Server],
) -> None:
    nobody = ServerAddress("127.0.0.1", free_port())
    assert why_silent(nobody) == why_silent_over_tcp(nobody) == "cannot be reached: Connection refused"
    assert why_silent(serve(lambda query, over_tcp: []).address, 0.1) == "does not answer in time"


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(octets=st.binary(max_size=300), keeps_id=st.booleans())
def test_nonsense_is_no_answer(octets: bytes, keeps_id: bool, serve: Callable[[Respond], Server]) -> None:  # noqa: FBT001
    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        return [(query.id.to_bytes(2) if keeps_id else b"") + octets]

    server = serve(respond)
    try:
        ask_over_tcp(server.address, QUESTION, 1)
    except TemporaryDiscoveryError as error:
        assert error.fact.startswith(("gives no usable answer", "does not answer", "cannot be reached"))
