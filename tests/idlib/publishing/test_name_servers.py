import dataclasses
import errno
import os
import socket
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import pytest

from idlib.errors import NotServedError, PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import PublishedSet
from idlib.publishing.name_servers import read_from, read_from_all, read_most_authoritative, wait_until_served
from idlib.publishing.record_types import tlsa_place
from idlib.publishing.zone import NameServer, Zone
from idlib.settings import ServerAddress
from testbed.name_server import Respond, Server
from tests.idlib.publishing.authority import authoritative, zone_of

Serve = Callable[..., Server]
NAME = IdentityName("alice._device.example.test")
PLACE = tlsa_place(NAME)
RECORD = bytes((3, 1, 0)) + bytes(range(64))
OTHER = bytes((3, 1, 0)) + bytes(64)


def with_records(*rdatas: bytes, ttl: int = 300, serial: int = 1) -> Respond:
    lines = [rf"alice._device {ttl} TLSA \# {len(rdata)} {rdata.hex()}" for rdata in rdatas]
    return authoritative(zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", *lines, serial=serial))


def zone_at(*addresses: ServerAddress) -> Zone:
    servers = tuple(NameServer(f"ns{number}.example.test", address) for number, address in enumerate(addresses, 1))
    return Zone("example.test", "ns1.example.test", 1800, servers, ())


def closed_port() -> ServerAddress:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return ServerAddress("127.0.0.1", probe.getsockname()[1])


def test_records_are_read_with_their_ttl(serve: Serve) -> None:
    server = serve(with_records(RECORD, OTHER, ttl=77))
    assert read_from(server.address, PLACE) == PublishedSet.of(77, [RECORD, OTHER])


def test_a_name_without_records_has_none(serve: Serve) -> None:
    assert read_from(serve(with_records()).address, PLACE) == PublishedSet.of(0, ())


def test_records_that_are_too_large_for_udp_are_read_over_tcp(serve: Serve) -> None:
    large = [bytes((3, 0, 0)) + bytes([number]) * 1500 for number in range(2)]
    assert read_from(serve(with_records(*large)).address, PLACE).rdatas == tuple(large)


def test_a_record_that_is_malformed_hides_no_other(serve: Serve) -> None:
    malformed = [bytes((3, 1, 1, 7)), bytes((3, 0))]

    def add(answer: dns.message.Message) -> None:
        for rdata in malformed:
            record = dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, rdata)
            answer.answer.append(dns.rrset.from_rdata(dns.name.from_text(NAME.text), 300, record))

    zone = zone_of("example.test.", "@ NS ns", rf"alice._device TLSA \# {len(RECORD)} {RECORD.hex()}")
    server = serve(authoritative(zone, change=add))
    assert read_from(server.address, PLACE) == PublishedSet.of(300, [RECORD, *malformed])


def test_the_query_asks_for_no_recursion(serve: Serve) -> None:
    server = serve(with_records(RECORD))
    read_from(server.address, PLACE)
    assert not any(query.flags & dns.flags.RD for query in server.queries)


def refusing(rcode: dns.rcode.Rcode) -> Respond:
    return authoritative(zone_of("example.test.", "@ NS ns"), change=lambda answer: answer.set_rcode(rcode))


def from_a_cache(answer: dns.message.Message) -> None:
    answer.flags &= ~dns.flags.AA


def truncate(answer: dns.message.Message) -> None:
    answer.flags |= dns.flags.TC


@pytest.mark.parametrize(
    ("respond", "fact"),
    [
        (refusing(dns.rcode.REFUSED), "it answers REFUSED"),
        (refusing(dns.rcode.SERVFAIL), "it answers SERVFAIL"),
        (authoritative(zone_of("example.test.", "@ NS ns"), change=from_a_cache), "it does not serve the zone"),
        (authoritative(zone_of("example.test.", "@ NS ns"), change=truncate), "it truncates its answer even over TCP"),
    ],
)
def test_an_answer_that_is_not_the_zones_says_why(serve: Serve, respond: Respond, fact: str) -> None:
    with pytest.raises(NotServedError) as caught:
        read_from(serve(respond).address, PLACE)
    assert caught.value.fact == fact


def test_every_server_is_read_with_its_serial(serve: Serve) -> None:
    good, late = serve(with_records(RECORD, serial=2)), serve(with_records(serial=1))
    zone = zone_at(good.address, late.address)
    served = read_from_all(zone, PLACE)
    assert [answer.server for answer in served] == list(zone.servers)
    assert [answer.records for answer in served] == [PublishedSet.of(300, [RECORD]), PublishedSet.of(0, ())]
    assert [answer.serial for answer in served] == [2, 1]


def test_the_primary_server_is_trusted_more_than_the_others(serve: Serve) -> None:
    late, primary, down = serve(with_records(OTHER)), serve(with_records(RECORD)), closed_port()
    zone = dataclasses.replace(zone_at(late.address, primary.address), primary="ns2.example.test")
    assert read_most_authoritative(zone, PLACE).rdatas == (RECORD,)
    zone = dataclasses.replace(zone_at(late.address, down), primary="ns2.example.test")
    assert read_most_authoritative(zone, PLACE).rdatas == (OTHER,)
    with pytest.raises(PublishingError, match=r"no name server of example\.test answers"):
        read_most_authoritative(zone_at(down), PLACE)


def test_waiting_ends_when_the_last_server_has_the_records(serve: Serve) -> None:
    good, late = serve(with_records(RECORD, ttl=60)), serve(with_records())
    reports: list[str] = []

    def report(sentence: str) -> None:
        reports.append(sentence)
        late.respond = with_records(RECORD, ttl=3600)

    served = wait_until_served(zone_at(good.address, late.address), PLACE, PublishedSet.of(300, [RECORD]), 30, report)
    assert [answer.records is not None and answer.records.rdatas for answer in served] == [(RECORD,)] * 2
    assert reports == [f"Waiting for ns2.example.test ({late.address})."]


def why_not(zone: Zone) -> NotServedError:
    with pytest.raises(NotServedError) as caught:
        wait_until_served(zone, PLACE, PublishedSet.of(300, [RECORD]), 0.5)
    return caught.value


def test_a_server_that_is_late_is_named_with_both_serials(serve: Serve) -> None:
    good, late = serve(with_records(RECORD, serial=2)), serve(with_records(OTHER, serial=1))
    error = why_not(zone_at(good.address, late.address))
    assert error.fact == (
        f"not every name server serves the records after 0.5 s: ns2.example.test ({late.address}): it serves other"
        " records (serial 1; the newest is 2)"
    )
    assert "zone transfers are late" in error.hint


def test_serials_are_compared_as_circular_numbers(serve: Serve) -> None:
    good, late = serve(with_records(RECORD, serial=5)), serve(with_records(serial=2**32 - 1))
    assert "(serial 4294967295; the newest is 5)" in why_not(zone_at(good.address, late.address)).fact


def test_a_server_with_the_same_serial_will_never_fetch_the_zone(serve: Serve) -> None:
    good, late = serve(with_records(RECORD)), serve(with_records())
    assert "serial number did not change" in why_not(zone_at(good.address, late.address)).hint


def test_a_server_that_is_down_is_named(serve: Serve) -> None:
    down = closed_port()
    error = why_not(zone_at(serve(with_records(RECORD)).address, down))
    assert f"ns2.example.test ({down}): it " in error.fact
    assert "make these servers reachable" in error.hint


def test_a_device_without_any_route_has_published_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr("idlib.publishing.name_servers.exchange", unreachable)
    assert "it cannot be reached: Network is unreachable" in why_not(zone_at(closed_port())).fact
