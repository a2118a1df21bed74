import socket
import struct
from collections.abc import Callable
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.discovery import resolver as resolver_module
from idlib.discovery.messages import Question
from idlib.discovery.resolver import Resolver, named_server, system_servers
from idlib.discovery.resolver import Server as ResolvingServer
from idlib.errors import BogusError, DiscoveryError, TemporaryDiscoveryError
from idlib.names import IdentityName
from idlib.settings import ServerAddress
from testbed.name_server import Server, over_udp_or_tcp

QUESTION = Question.about(IdentityName("alice._device.example.test"))

Serve = Callable[..., Server]


def found(query: dns.message.Message, *texts: str) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "TLSA", *(texts or ("3 0 0 AB",))))
    return response


def failed(query: dns.message.Message, rcode: int, *extended_errors: int) -> bytes:
    response = dns.message.make_response(query)
    options: list[dns.edns.Option] = [
        dns.edns.EDEOption(dns.edns.EDECode.make(code), "why") for code in extended_errors
    ]
    response.use_edns(0, options=options)
    response.set_rcode(dns.rcode.Rcode.make(rcode))
    return response.to_wire()


def resolver(server: Server, seconds: float = 20) -> Resolver:
    return Resolver(named_server(server.address), seconds)


def why_not(server: Server, kind: type[DiscoveryError] = TemporaryDiscoveryError, seconds: float = 20) -> str:
    with pytest.raises(kind) as caught:
        resolver(server, seconds).ask(QUESTION)
    assert str(server.address) in caught.value.fact
    assert caught.value.hint
    return caught.value.fact


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_answer_comes_over_udp(serve: Serve, family: socket.AddressFamily) -> None:
    server = serve(lambda query, over_tcp: [] if over_tcp else [found(query).to_wire()], family)
    reply = resolver(server).ask(QUESTION)
    assert reply.name_exists
    assert reply.server == ResolvingServer(server.address, trusted=True)
    assert len(reply.answer.records) == 1
    assert len(server.queries) == 1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_large_answer_comes_over_tcp(serve: Serve, family: socket.AddressFamily) -> None:
    texts = [f"3 0 0 {number:04X}{'AB' * 900}" for number in range(60)]
    server = serve(lambda query, over_tcp: over_udp_or_tcp(found(query, *texts), over_tcp), family)
    assert len(resolver(server).ask(QUESTION).answer.records) == 60
    assert len(server.queries) == 2


def test_a_lost_query_is_repeated(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idlib.discovery.resolver._SECONDS_BEFORE_REPEATING", 0.05)
    queries: list[int] = []

    def lose_two(query: dns.message.Message, _over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        queries.append(query.id)
        return [found(query).to_wire()] if len(queries) > 2 else []

    server = serve(lose_two)
    assert resolver(server).ask(QUESTION).name_exists
    assert len(set(queries)) == 1


def test_a_name_that_does_not_exist_is_an_answer(serve: Serve) -> None:
    server = serve(lambda query, _: [failed(query, dns.rcode.NXDOMAIN)])
    assert not resolver(server).ask(QUESTION).name_exists


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR, dns.rcode.NOTAUTH])
def test_a_server_that_refuses_is_reported_with_its_reason(serve: Serve, rcode: dns.rcode.Rcode) -> None:
    server = serve(lambda query, _: [failed(query, rcode, 18)])
    assert f"answers {dns.rcode.to_text(rcode)} with extended error 18 (why)" in why_not(server)
    assert len(server.queries) == 1


def test_a_silent_server_is_reported(serve: Serve) -> None:
    assert "did not answer in time" in why_not(serve(lambda *_: []), seconds=0.1)


def test_a_network_that_blocks_port_53_is_suspected(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    server = serve(lambda *_: [])
    monkeypatch.setattr("idlib.discovery.resolver.DNS_PORT", server.address.port)
    with pytest.raises(TemporaryDiscoveryError) as raised:
        Resolver(named_server(server.address), seconds=0.1).ask(QUESTION)
    assert raised.value.hint.endswith("set DNS_RESOLVER to a resolver that answers over HTTPS (docs/networks.md)")


def test_an_unreachable_server_is_reported() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = ServerAddress("127.0.0.1", unused.getsockname()[1])
    with pytest.raises(TemporaryDiscoveryError, match=f"{address} cannot be reached: Connection refused"):
        Resolver(named_server(address)).ask(QUESTION)


def test_the_hint_shows_the_brackets_if_a_port_may_belong_to_an_address() -> None:
    address = ServerAddress("::1:53")
    with pytest.raises(TemporaryDiscoveryError) as raised:
        Resolver(named_server(address), seconds=0.1).ask(QUESTION)
    assert (
        raised.value.hint
        == "check the network and DNS_RESOLVER, which must be [::1]:53 if 53 is the port, and try again"
    )


def test_a_servfail_without_a_dnssec_error_is_temporary(serve: Serve) -> None:
    server = serve(lambda query, _: [failed(query, dns.rcode.SERVFAIL, 22)])
    assert "answers SERVFAIL with extended error 22 (why)" in why_not(server)
    assert [bool(query.flags & dns.flags.CD) for query in server.queries] == [False, True]


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_a_servfail_that_only_validation_explains_is_bogus(serve: Serve, rcode: int) -> None:
    server = serve(lambda query, _: [failed(query, rcode if query.flags & dns.flags.CD else dns.rcode.SERVFAIL)])
    assert "reports broken DNSSEC signatures over alice._device.example.test TLSA" in why_not(server, BogusError)


@pytest.mark.parametrize("code", [6, 7, 8, 9, 10, 12])
@pytest.mark.parametrize("checking_disabled", [False, True])
def test_a_servfail_with_a_dnssec_error_is_bogus(serve: Serve, code: int, checking_disabled: bool) -> None:  # noqa: FBT001
    server = serve(
        lambda query, _: [
            failed(
                query, dns.rcode.SERVFAIL, *([code] if bool(query.flags & dns.flags.CD) == checking_disabled else [])
            )
        ]
    )
    assert f"extended error {code} (why)" in why_not(server, BogusError)


def test_a_query_with_checking_disabled_has_the_same_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[float] = []

    def note(_address: object, _query: object, read: Callable[[bytes], object], deadline: float) -> object:
        deadlines.append(deadline)
        return over_udp(server.address, _query, read, deadline)  # type: ignore[arg-type]

    over_udp = resolver_module.over_udp
    monkeypatch.setattr(resolver_module, "over_udp", note)
    server = serve(lambda query, _: [failed(query, dns.rcode.SERVFAIL)])
    why_not(server)
    assert len(deadlines) == 2
    assert deadlines[0] == deadlines[1]


def _with_wrong_number(query: dns.message.Message) -> bytes:
    response = found(query)
    response.id ^= 1
    return response.to_wire()


def _with_other_question(query: dns.message.Message) -> bytes:
    response = found(query)
    response.question = [dns.rrset.from_text("bob._device.example.test.", 0, "IN", "TLSA")]
    return response.to_wire()


LIES = [
    _with_wrong_number,
    _with_other_question,
    lambda query: b"",
    lambda query: b"garbage",
    lambda query: query.to_wire(),
    lambda query: found(query).to_wire()[:-1],
    lambda query: found(query).to_wire() + b"x",
]


@pytest.mark.parametrize("lie", LIES)
def test_an_unusable_answer_is_a_temporary_error(serve: Serve, lie: Callable[[dns.message.Message], bytes]) -> None:
    assert "gives no usable answer" in why_not(serve(lambda query, _: [lie(query)] * 150))


@pytest.mark.parametrize("lie", LIES)
def test_a_forged_answer_does_not_prevent_the_genuine_one(
    serve: Serve, lie: Callable[[dns.message.Message], bytes]
) -> None:
    server = serve(lambda query, _: [lie(query)] * 20 + [found(query).to_wire()])
    assert resolver(server).ask(QUESTION).name_exists


def _truncated(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return response.to_wire()


@pytest.mark.parametrize(
    ("over_tcp", "reason"),
    [
        (lambda query: [_truncated(query)], "truncates its answer even over TCP"),
        (lambda query: [], "closed the connection"),
        (lambda query: [b"garbage"], "gives no usable answer"),
        (lambda query: [_with_wrong_number(query)], "gives no usable answer"),
        (lambda query: [_with_other_question(query)], "gives no usable answer"),
    ],
)
def test_a_truncated_answer_without_a_complete_one_is_a_temporary_error(
    serve: Serve, over_tcp: Callable[[dns.message.Message], list[bytes]], reason: str
) -> None:
    server = serve(lambda query, is_tcp: over_tcp(query) if is_tcp else [_truncated(query)])
    assert reason in why_not(server)


@given(octets=st.binary(max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_over_tcp_are_a_temporary_error(serve: Serve, octets: bytes) -> None:
    def answer(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        return [struct.pack("!H", query.id) + octets] if over_tcp else [_truncated(query)]

    server = serve(answer)
    with pytest.raises(DiscoveryError):
        resolver(server).ask(QUESTION)


def test_the_next_server_is_asked_if_one_fails(serve: Serve) -> None:
    refusing = serve(lambda query, _: [failed(query, dns.rcode.REFUSED)])
    answering = serve(lambda query, _: [found(query).to_wire()])
    servers = [ResolvingServer(server.address, trusted=False) for server in (refusing, answering)]
    assert Resolver(lambda: servers).ask(QUESTION).server == servers[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 127.0.0.1\n", [("127.0.0.1", True)]),
        ("search x\nnameserver ::1\noptions edns0", [("::1", True)]),
        ("nameserver 127.0.0.11\n", [("127.0.0.11", False)]),
        ("nameserver 127.0.0.53\n", [("127.0.0.53", False)]),
        ("nameserver 192.0.2.1\nnameserver 2001:db8::1", [("192.0.2.1", False), ("2001:db8::1", False)]),
        ("nameserver 192.0.2.1\nnameserver 127.0.0.1", [("127.0.0.1", True)]),
        ("".join(f"nameserver 192.0.2.{number}\n" for number in range(5)), [(f"192.0.2.{n}", False) for n in range(3)]),
        ("nameserver\nnameserver x\n#nameserver 192.0.2.1\nnameserver 192.0.2.2 # y", [("192.0.2.2", False)]),
        ("", [("127.0.0.1", True)]),
    ],
)
def test_the_systems_resolvers_are_trusted_only_on_two_addresses(
    tmp_path: Path, text: str, expected: list[tuple[str, bool]]
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert [(str(server.address.address), server.trusted) for server in system_servers(path)] == expected


def test_without_a_list_of_resolvers_the_local_one_is_asked(tmp_path: Path) -> None:
    assert [server.address for server in system_servers(tmp_path / "absent")] == [ServerAddress("127.0.0.1")]


OVER_TCP = Question(QUESTION.name, dns.rdatatype.TXT, over_tcp=True)


def test_a_question_over_tcp_is_not_asked_over_udp(serve: Serve) -> None:
    transports: list[bool] = []

    def answer(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        transports.append(over_tcp)
        return [found(query).to_wire()]

    assert resolver(serve(answer)).ask(OVER_TCP).name_exists
    assert transports == [True]


@pytest.mark.parametrize(
    ("over_tcp", "reason"),
    [
        (lambda query: [_truncated(query)], "truncates its answer even over TCP"),
        (lambda query: [], "closed the connection"),
        (lambda query: [b"garbage"], "gives no usable answer"),
        (lambda query: [_with_wrong_number(query)], "another query's ID"),
    ],
)
def test_a_bad_answer_over_tcp_is_a_temporary_error(
    serve: Serve, over_tcp: Callable[[dns.message.Message], list[bytes]], reason: str
) -> None:
    server = serve(lambda query, _: over_tcp(query))
    with pytest.raises(TemporaryDiscoveryError, match=reason):
        resolver(server).ask(OVER_TCP)


def test_a_servfail_over_tcp_is_examined_over_tcp(serve: Serve) -> None:
    transports: list[bool] = []

    def answer(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        transports.append(over_tcp)
        return [failed(query, dns.rcode.NOERROR if query.flags & dns.flags.CD else dns.rcode.SERVFAIL)]

    with pytest.raises(BogusError, match=r"broken DNSSEC signatures over alice\._device\.example\.test TXT"):
        resolver(serve(answer)).ask(OVER_TCP)
    assert transports == [True, True]
