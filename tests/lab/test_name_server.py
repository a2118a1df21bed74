import socket
import threading
from collections.abc import Iterator

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from idlib.settings import ServerAddress
from lab import name_server
from lab.zone import SignedZone

ORIGIN = dns.name.from_text("example.test")
ALICE = "alice._device.example.test."
LARGE = "large._device.example.test."
RECORDS = f"""
{ALICE} 300 IN TLSA 3 0 0 3082abcd
{LARGE} 300 IN TLSA 3 0 0 {"ab" * 2000}
alias.example.test. IN CNAME {ALICE}
away.example.test. IN CNAME elsewhere.example.org.
loop.example.test. IN CNAME loop.example.test.
"""


@pytest.fixture(scope="module")
def zone() -> SignedZone:
    zone = SignedZone("example.test")
    zone.publish(RECORDS)
    return zone


@pytest.fixture(scope="module")
def address(zone: SignedZone) -> Iterator[ServerAddress]:
    with name_server.running(zone) as address:
        yield address


def _ask(zone: SignedZone, name: str, rdtype: str, *, dnssec: bool = True) -> dns.message.Message:
    return name_server.answer(zone.snapshot, dns.message.make_query(name, rdtype, want_dnssec=dnssec))


def _types(rrsets: list[dns.rrset.RRset]) -> list[str]:
    return [dns.rdatatype.to_text(rrset.rdtype) for rrset in rrsets]


def test_a_record_has_its_signature_if_the_query_requests_it(zone: SignedZone) -> None:
    response = _ask(zone, ALICE, "TLSA")
    assert response.rcode() == dns.rcode.NOERROR
    assert response.flags & dns.flags.AA
    assert not response.flags & dns.flags.AD
    assert response.ednsflags & dns.flags.DO
    assert _types(response.answer) == ["TLSA", "RRSIG"]
    keys = _ask(zone, "example.test", "DNSKEY").answer[0]
    dns.dnssec.validate(response.answer[0], response.answer[1], {ORIGIN: keys})
    assert _types(_ask(zone, ALICE, "TLSA", dnssec=False).answer) == ["TLSA"]


def test_names_are_compared_without_case(zone: SignedZone) -> None:
    assert _types(_ask(zone, "ALICE._Device.EXAMPLE.test.", "TLSA").answer) == ["TLSA", "RRSIG"]


@pytest.mark.parametrize("name", [ALICE, "example.test", "_device.example.test"])
def test_a_name_without_such_records_exists(zone: SignedZone, name: str) -> None:
    response = _ask(zone, name, "AAAA")
    assert response.rcode() == dns.rcode.NOERROR
    assert not response.answer
    assert _types(response.authority) == ["SOA", "RRSIG", "NSEC", "RRSIG"]
    assert _types(_ask(zone, name, "AAAA", dnssec=False).authority) == ["SOA"]


def test_the_absence_of_a_name_and_its_wildcard_is_proven(zone: SignedZone) -> None:
    response = _ask(zone, "mallory._device.example.test", "TLSA")
    assert response.rcode() == dns.rcode.NXDOMAIN
    proofs = [rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.NSEC]
    for denied in ("mallory._device.example.test.", "*._device.example.test."):
        name = dns.name.from_text(denied)
        assert any(proof.name < name and (name < proof[0].next or proof[0].next == ORIGIN) for proof in proofs)
    assert _types(_ask(zone, "mallory._device.example.test", "TLSA", dnssec=False).authority) == ["SOA"]


def test_an_alias_is_followed_only_inside_the_zone(zone: SignedZone) -> None:
    assert _types(_ask(zone, "alias.example.test", "TLSA").answer) == ["CNAME", "RRSIG", "TLSA", "RRSIG"]
    assert _types(_ask(zone, "away.example.test", "TLSA").answer) == ["CNAME", "RRSIG"]
    assert set(_types(_ask(zone, "loop.example.test", "TLSA").answer)) == {"CNAME", "RRSIG"}


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode"),
    [("example.org", "A", dns.rcode.REFUSED), (ALICE, "ANY", dns.rcode.NOTIMP), (ALICE, "AXFR", dns.rcode.NOTIMP)],
)
def test_an_unsupported_query_has_an_error_code(
    zone: SignedZone, name: str, rdtype: str, rcode: dns.rcode.Rcode
) -> None:
    response = _ask(zone, name, rdtype)
    assert response.rcode() == rcode
    assert not response.answer


def test_other_operations_are_not_implemented(zone: SignedZone) -> None:
    query = dns.message.make_query(ALICE, "TLSA")
    query.set_opcode(dns.opcode.STATUS)
    assert name_server.answer(zone.snapshot, query).rcode() == dns.rcode.NOTIMP


def test_udp_and_tcp_give_the_same_answer(address: ServerAddress) -> None:
    query = dns.message.make_query(ALICE, "TLSA", want_dnssec=True)
    over_udp = dns.query.udp(query, address.address, timeout=5, port=address.port)
    over_tcp = dns.query.tcp(query, address.address, timeout=5, port=address.port)
    assert over_udp.answer == over_tcp.answer
    assert _types(over_udp.answer) == ["TLSA", "RRSIG"]


@pytest.mark.parametrize("dnssec", [True, False])
def test_a_large_answer_is_truncated_and_comes_over_tcp(address: ServerAddress, *, dnssec: bool) -> None:
    query = dns.message.make_query(LARGE, "TLSA", want_dnssec=dnssec)
    truncated = dns.query.udp(query, address.address, timeout=5, port=address.port)
    assert truncated.flags & dns.flags.TC
    assert len(truncated.to_wire()) <= 1232
    complete, used_tcp = dns.query.udp_with_fallback(query, address.address, timeout=5, port=address.port)
    assert used_tcp
    assert len(complete.answer[0][0].cert) == 2000


def test_several_queries_share_a_tcp_connection(address: ServerAddress) -> None:
    with socket.create_connection((address.address, address.port), timeout=5) as connection:
        for rdtype in ("TLSA", "AAAA"):
            query = dns.message.make_query(ALICE, rdtype)
            dns.query.send_tcp(connection, query)
            response, _ = dns.query.receive_tcp(connection)
            assert query.is_response(response)


def test_the_server_survives_garbage(address: ServerAddress) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for garbage in (b"", b"\0", b"\xff" * 40, bytes(12)):
            client.sendto(garbage, (address.address, address.port))
    with socket.create_connection((address.address, address.port), timeout=5) as connection:
        connection.sendall(b"\0\x04abcd")
        assert connection.recv(1) == b""
    query = dns.message.make_query(ALICE, "TLSA")
    assert dns.query.udp(query, address.address, timeout=5, port=address.port).answer


def test_a_change_of_the_zone_is_served_at_once() -> None:
    zone = SignedZone("example.test")
    query = dns.message.make_query(ALICE, "TLSA")
    with name_server.running(zone) as address:
        before = dns.query.udp(query, address.address, timeout=5, port=address.port)
        zone.publish(f"{ALICE} IN TLSA 3 0 0 00")
        after = dns.query.udp(query, address.address, timeout=5, port=address.port)
    assert before.rcode() == dns.rcode.NXDOMAIN
    assert after.answer


def test_the_server_stops_with_open_connections_and_frees_its_port() -> None:
    threads = threading.active_count()
    with name_server.running(SignedZone("example.test")) as address:
        connection = socket.create_connection((address.address, address.port), timeout=5)
        query = dns.message.make_query("example.test", "SOA")
        dns.query.send_tcp(connection, query)
        dns.query.receive_tcp(connection)
    with connection:
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.address, address.port), timeout=5)
    assert threading.active_count() == threads
