import dataclasses

import dns.name
import pytest
from dns.rdatatype import RdataType

from idlib.publishing.zone import NameServer
from idlib.settings import ServerAddress
from messaging_maintenance.checks.exchange import Response
from messaging_maintenance.checks.name_servers import Served, ZoneServers, check_name_servers
from messaging_maintenance.checks.result import Item, Status
from testbed.name_server import Zone
from tests.applications.maintenance.checks.observations import NAME, observed, reply_of, signed_zone

RECORD, OTHER = "3 1 0 ABCD", "3 1 0 DCBA"
ORIGIN = dns.name.from_text("example.test")


def response_of(zone: Zone) -> Response:
    answer = reply_of(zone, dns.name.from_text(str(NAME)), RdataType.TLSA).answer
    return Response(answer, is_authoritative=True, offers_recursion=False, size=300, edns_payload=1232)


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
    assert failed(items) == {"network.port53", "servers.reachable"}


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
