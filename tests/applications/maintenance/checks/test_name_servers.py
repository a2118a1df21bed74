import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import dns.flags
import dns.message
import dns.name
import pytest
from dns.rdatatype import RdataType

from idlib.discovery.resolver import Resolver, named_server
from idlib.errors import BogusError
from idlib.publishing.zone import NameServer
from idlib.settings import ServerAddress
from messaging_maintenance.checks import name_servers
from messaging_maintenance.checks.exchange import Response
from messaging_maintenance.checks.name_servers import Served, ZoneServers, ask_name_servers, check_name_servers
from messaging_maintenance.checks.result import Item, Status, fail, skip
from testbed.name_server import Server, Zone
from tests.applications.maintenance.checks.observations import NAME, SECURE, observed, reply_of, signed_zone

RECORD, OTHER = "3 1 0 ABCD", "3 1 0 DCBA"
ORIGIN = dns.name.from_text("example.test")
PARENT_KEYS = (dns.name.root, RdataType.DNSKEY)


def response_of(zone: Zone) -> Response:
    answer = reply_of(zone, dns.name.from_text(str(NAME)), RdataType.TLSA).answer
    return Response(answer, is_authoritative=True, offers_recursion=False, size=300, edns_payload=1232)


def response_without_records(zone: Zone) -> Response:
    """Return an answer as before the records were added."""
    response = response_of(zone)
    others = tuple(one for one in response.answer.records if one.record_type not in (RdataType.TLSA, RdataType.RRSIG))
    return dataclasses.replace(response, answer=dataclasses.replace(response.answer, records=others))


@contextlib.contextmanager
def root_server() -> Iterator[ServerAddress]:
    """Yield the address of a server that answers about the root."""

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        return [response.to_wire()]

    server = Server(respond)
    try:
        yield server.address
    finally:
        server.close()


def served(number: int, zone: Zone, serial: int = 7) -> Served:
    server = NameServer(f"ns{number}.example.test", ServerAddress(f"192.0.2.{number}"))
    return Served(server, response_of(zone), response_of(zone), serial)


def check(zone: Zone, *answers: Served, unresolved: tuple[str, ...] = ()) -> dict[str, Item]:
    items = check_name_servers(observed(zone), ZoneServers(ORIGIN, answers, unresolved), 1)
    return {item.id: item for item in items}


@pytest.fixture
def zone() -> Zone:
    return signed_zone(RECORD)


def failed(items: dict[str, Item]) -> set[str]:
    return {identifier for identifier, item in items.items() if item.status is Status.FAIL}


def test_servers_that_agree_pass(zone: Zone) -> None:
    assert {item.status for item in check(zone, served(1, zone), served(2, zone)).values()} == {Status.OK}


def test_a_secondary_that_lags_is_named(zone: Zone) -> None:
    items = check(zone, served(1, zone, 8), served(2, zone, 7))
    assert failed(items) == {"servers.serial"}
    assert "ns2.example.test (192.0.2.2): 7" in items["servers.serial"].evidence


def test_servers_with_other_records_are_named(zone: Zone) -> None:
    zone_of_other = signed_zone(RECORD, OTHER)
    items = check(zone, served(1, zone), served(2, zone_of_other))
    assert failed(items) == {"servers.agree", "servers.signatures"}
    assert "serial numbers" not in items["servers.agree"].evidence


def test_a_secondary_that_lags_with_other_records_is_one_failure(zone: Zone) -> None:
    older = dataclasses.replace(served(2, zone, 6), udp=None, tcp=response_without_records(zone))
    items = check(zone, served(1, zone), dataclasses.replace(older, udp=older.tcp))
    assert failed(items) == {"servers.serial"}
    assert items["servers.agree"].status is Status.WARN


def test_signatures_by_another_key_are_found_at_their_server(zone: Zone) -> None:
    items = check(zone, served(1, zone), served(2, signed_zone(RECORD)))
    assert failed(items) == {"servers.signatures"}
    assert items["servers.signatures"].evidence.startswith("ns2.example.test (192.0.2.2): ")


def test_a_server_that_is_silent_is_named(zone: Zone) -> None:
    silent = dataclasses.replace(served(2, zone), udp=None, udp_fault="does not answer in time")
    items = check(zone, served(1, zone), silent)
    assert failed(items) == {"servers.reachable"}
    assert items["servers.reachable"].evidence == "ns2.example.test (192.0.2.2) does not answer in time"


def test_a_lame_server_is_named(zone: Zone) -> None:
    lame = served(2, zone)
    assert lame.udp is not None
    refused = dataclasses.replace(lame.udp, is_authoritative=False)
    items = check(zone, served(1, zone), dataclasses.replace(lame, udp=refused, tcp=refused))
    assert failed(items) == {"servers.reachable"}
    assert "does not serve the zone" in items["servers.reachable"].evidence


def test_an_answer_of_something_else_is_a_hijacked_port(zone: Zone) -> None:
    real = served(1, zone)
    assert real.udp is not None
    false = dataclasses.replace(real.udp, is_authoritative=False, offers_recursion=True)
    items = check(zone, dataclasses.replace(real, udp=false))
    assert failed(items) == {"network.port53"}
    of_servers = {identifier: item.status for identifier, item in items.items() if identifier.startswith("servers.")}
    assert of_servers.pop("servers.found") is Status.OK
    assert set(of_servers.values()) == {Status.SKIP}


def test_one_name_server_of_two_that_is_a_resolver_is_misconfigured_and_not_hijacked(zone: Zone) -> None:
    real = served(1, zone)
    assert real.udp is not None
    recursive = dataclasses.replace(real.udp, is_authoritative=False, offers_recursion=True)
    items = check(zone, real, dataclasses.replace(served(2, zone), udp=recursive, serial=None))
    assert failed(items) == {"servers.reachable"}
    assert items["servers.reachable"].evidence == (
        "ns2.example.test (192.0.2.2) does not serve the zone (it answers as a resolver does)"
    )


def test_a_name_server_that_offers_recursion_beside_its_zone_is_none_that_hijacks(zone: Zone) -> None:
    real = served(1, zone)
    assert real.udp is not None
    both = dataclasses.replace(real.udp, offers_recursion=True)
    assert failed(check(zone, dataclasses.replace(real, udp=both))) == set()


def test_an_address_without_a_route_is_left_out_if_there_is_another(zone: Zone) -> None:
    why = "cannot be reached: Network is unreachable"
    unrouted = Served(served(2, zone).server, None, None, None, why, why, has_route=False)
    items = check(zone, served(1, zone), unrouted)
    assert {item.status for item in items.values()} == {Status.OK}
    assert items["servers.found"].evidence.endswith("; this device has no route to ns2.example.test (192.0.2.2)")
    assert items["servers.reachable"].evidence == "all of 1 give an authoritative answer over UDP"
    alone = check(zone, unrouted)
    assert failed(alone) == {"network.port53"}
    assert why in alone["servers.reachable"].evidence


def silent(number: int, zone: Zone) -> Served:
    why = "does not answer in time"
    return dataclasses.replace(served(number, zone), udp=None, tcp=None, serial=None, udp_fault=why, tcp_fault=why)


@pytest.mark.parametrize(("when_silent", "status"), [(fail, Status.FAIL), (skip, Status.SKIP)])
def test_a_port_that_is_closed_on_the_path_is_one_failure_and_only_of_this_device(
    when_silent: Callable[[str, str, str], Item], status: Status, zone: Zone
) -> None:
    # Nothing listens at the port of the root servers here.
    servers = ZoneServers(ORIGIN, (silent(1, zone), silent(2, zone)))
    items = {item.id: item for item in check_name_servers(observed(zone), servers, 1, when_silent)}
    assert items["network.port53"].status is status
    assert items["servers.reachable"].status is Status.SKIP
    assert failed(items) == ({"network.port53"} if status is Status.FAIL else set())


class Encrypted:
    """An encrypted path that nothing is asked over."""

    def new_identifier(self) -> int:
        raise AssertionError("nothing is asked over this path")

    def exchange(self, query: bytes, deadline: float) -> bytes:
        raise AssertionError("nothing is asked over this path")


@pytest.mark.parametrize("offers_recursion", [None, True], ids=["closed", "hijacked"])
def test_port_53_is_no_failure_if_the_resolver_has_an_encrypted_path(offers_recursion: bool | None, zone: Zone) -> None:  # noqa: FBT001
    one = silent(1, zone)
    if offers_recursion:
        one = dataclasses.replace(
            served(1, zone), udp=dataclasses.replace(response_of(zone), is_authoritative=False, offers_recursion=True)
        )
    seen = observed(zone)
    seen = dataclasses.replace(seen, servers=[dataclasses.replace(seen.servers[0], channel=Encrypted())])
    items = {item.id: item for item in check_name_servers(seen, ZoneServers(ORIGIN, (one,)), 1)}
    assert items["network.port53"].status is Status.WARN
    assert items["network.port53"].hint.startswith("only publishing and key rotation need it")
    assert failed(items) == set()


def test_name_servers_are_blamed_if_root_servers_answer(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    with root_server() as root:
        monkeypatch.setattr(name_servers, "_ROOT_SERVERS", (root.address,))
        items = {
            item.id: item
            for item in check_name_servers(observed(zone), ZoneServers(ORIGIN, (silent(1, zone),)), root.port)
        }
    assert failed(items) == {"servers.reachable"}
    assert items["network.port53"].evidence == "root servers answer directly"


@pytest.mark.parametrize(
    ("silence", "status"), [("cannot be reached: Connection refused", Status.SKIP), ("does not answer", Status.FAIL)]
)
def test_a_resolver_of_this_machine_that_does_not_run_is_no_closed_port(
    silence: str, status: Status, zone: Zone
) -> None:
    seen = observed(zone, silence=silence)
    items = {item.id: item for item in check_name_servers(seen, ZoneServers(None), 1)}
    assert items["network.port53"].status is status


@pytest.mark.parametrize("days", [-2, 2])
def test_signatures_that_are_broken_at_every_server_are_a_matter_of_the_chain(days: int) -> None:
    since, until = sorted((timedelta(days=days), timedelta(days=10 * days)))
    zone = signed_zone(RECORD, since=since, until=until)
    # The clock is right, because the parent's signatures are valid.
    keys = signed_zone(RECORD)
    seen = observed(zone, BogusError("expired"))
    seen = dataclasses.replace(seen, facts={**seen.facts, PARENT_KEYS: reply_of(keys, ORIGIN, RdataType.DNSKEY)})
    items = {item.id: item for item in check_name_servers(seen, ZoneServers(ORIGIN, (served(1, zone),)), 1)}
    assert failed(items) == set()
    assert items["servers.signatures"].evidence.startswith("broken at every name server; see chain.signatures: ns1")
    secure = dataclasses.replace(seen, verdict=SECURE)
    items = {item.id: item for item in check_name_servers(secure, ZoneServers(ORIGIN, (served(1, zone),)), 1)}
    assert failed(items) == {"servers.signatures"}


def test_a_wrong_clock_is_not_blamed_on_the_name_servers() -> None:
    zone = signed_zone(RECORD, since=timedelta(days=-3660), until=timedelta(days=-3650))
    items = check(zone, served(1, zone))
    assert failed(items) == set()
    assert items["servers.signatures"].status is Status.SKIP


def test_of_too_many_name_servers_some_are_not_asked(zone: Zone) -> None:
    items = {
        item.id: item
        for item in check_name_servers(observed(zone), ZoneServers(ORIGIN, (served(1, zone),), left_out=99), 1)
    }
    assert items["servers.found"].status is Status.WARN
    assert items["servers.found"].evidence == "99 name servers of 100 not asked"


def test_a_name_server_over_ipv6_is_asked() -> None:
    zone = signed_zone(RECORD)
    zone.add_text("ns", "AAAA", "::1")
    del zone.records[zone.name("ns"), RdataType.A]

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = zone.answer(query)
        response.flags |= dns.flags.AA
        return [response.to_wire(max_size=65535)]

    server = Server(respond, socket.AF_INET6)
    try:
        seen, resolver = observed(zone), Resolver(named_server(server.address), 4)
        found = ask_name_servers(seen, resolver, server.address.port)
        items = {item.id: item for item in check_name_servers(seen, found, server.address.port)}
    finally:
        server.close()
    assert items["servers.found"].evidence == f"ns.example.test ([::1]:{server.address.port})"
    assert items["servers.serial"].evidence == "serial 7 everywhere"
    assert {item.status for item in items.values()} == {Status.OK}


def test_a_hundred_name_servers_that_are_silent_take_a_bounded_time(zone: Zone) -> None:
    hosts = [f"ns{number}.example.test." for number in range(100)]
    zone.add_text("@", "NS", *hosts)
    for host in hosts:
        zone.add_text(host, "A", "127.0.0.1", "127.0.0.2", "127.0.0.3")

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        return [zone.answer(query).to_wire(max_size=65535)]

    server = Server(respond)
    with socket.socket(type=socket.SOCK_DGRAM) as silent_server:
        silent_server.bind(("0.0.0.0", 0))  # all addresses of loopback, at a port of its own
        try:
            started = time.monotonic()
            found = ask_name_servers(
                observed(zone), Resolver(named_server(server.address), 4), silent_server.getsockname()[1]
            )
        finally:
            server.close()
    assert time.monotonic() - started < 15
    assert len(found.served) == 26
    assert found.left_out == 100 - 13 + 13 * 3 - 26


@pytest.mark.parametrize("is_truncated", [False, True])
def test_a_server_without_tcp_fails_only_those_answers_that_need_it(is_truncated: bool, zone: Zone) -> None:  # noqa: FBT001
    one = served(1, zone)
    assert one.udp is not None
    udp = dataclasses.replace(one.udp, answer=dataclasses.replace(one.udp.answer, truncated=is_truncated))
    items = check(zone, dataclasses.replace(one, udp=udp, tcp=None, tcp_fault="cannot be reached: Connection refused"))
    assert items["servers.tcp"].status is (Status.FAIL if is_truncated else Status.WARN)


def test_a_name_server_without_an_address_is_named(zone: Zone) -> None:
    items = check(zone, served(1, zone), unresolved=("ns2.example.test",))
    assert failed(items) == {"servers.found"}
    assert "ns2.example.test" in items["servers.found"].evidence
