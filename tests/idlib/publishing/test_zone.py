from collections.abc import Callable

import dns.message
import dns.name
import dns.rcode
import dns.zone
import pytest

from idlib.discovery.resolver import named_server
from idlib.errors import PublishingError
from idlib.names import IdentityName
from idlib.publishing.record_types import Place, epoch_place
from idlib.publishing.zone import HostResolver, NameServer, Zone
from idlib.settings import HostAddress, ServerAddress
from testbed.name_server import Respond, Server
from tests.idlib.publishing.authority import authoritative, recursive, zone_of

Serve = Callable[..., Server]
ALICE = IdentityName("alice._device.example.test")
EXAMPLE = zone_of(
    "example.test.", "@ NS ns", "@ NS ns2", "ns A 127.0.0.1", "ns2 A 127.0.0.2", "ns2 AAAA ::1", "www A 192.0.2.1"
)


def find(serve: Serve, resolver: Respond, authority: Respond, name: IdentityName = ALICE) -> tuple[Zone, Server]:
    """Return the zone that is found, and the resolver that was asked."""
    asked = serve(resolver)
    return HostResolver(named_server(asked.address)(), serve(authority).address.port).find_zone(name), asked


def test_a_zone_has_its_primary_and_each_address_of_its_name_servers(serve: Serve) -> None:
    zone, _ = find(serve, recursive(EXAMPLE), authoritative(EXAMPLE))
    port = zone.servers[0].address.port
    assert (zone.name, zone.primary, zone.unresolved) == ("example.test", "ns.example.test", ())
    assert zone.servers == (
        NameServer("ns.example.test", ServerAddress("127.0.0.1", port)),
        NameServer("ns2.example.test", ServerAddress("127.0.0.2", port)),
        NameServer("ns2.example.test", ServerAddress("::1", port)),
    )


def test_resolvers_may_remember_a_missing_record_for_the_smaller_number_of_the_soa_record(serve: Serve) -> None:
    zone, _ = find(serve, recursive(EXAMPLE), authoritative(EXAMPLE))
    assert zone.negative_ttl == 1800
    short = zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", ttl=600)
    assert find(serve, recursive(short), authoritative(short))[0].negative_ttl == 600


def test_the_ttl_that_is_left_in_the_resolvers_cache_does_not_count(serve: Serve) -> None:
    cached = zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", ttl=7)
    assert find(serve, recursive(cached), authoritative(EXAMPLE))[0].negative_ttl == 1800


def test_the_resolver_is_not_asked_for_a_name_that_does_not_exist(serve: Serve) -> None:
    _, resolver = find(serve, recursive(EXAMPLE), authoritative(EXAMPLE))
    asked = {query.question[0].name.to_text() for query in resolver.queries}
    assert asked == {"example.test.", "ns.example.test.", "ns2.example.test."}


@pytest.mark.parametrize("both_on_one_server", [False, True])
def test_a_zone_below_the_registered_domain_is_found(serve: Serve, both_on_one_server: bool) -> None:  # noqa: FBT001
    parent = zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", "_device NS ns")
    child = zone_of("_device.example.test.", "@ NS ns.example.test.", primary="hidden.example.test.")
    authority = authoritative(parent, child) if both_on_one_server else authoritative(parent)
    zone, _ = find(serve, recursive(parent, child), authority)
    assert (zone.name, zone.primary) == ("_device.example.test", "hidden.example.test")


def test_a_name_can_be_the_zone_itself(serve: Serve) -> None:
    zone, _ = find(serve, recursive(EXAMPLE), authoritative(EXAMPLE), IdentityName("example.test"))
    assert zone.name == "example.test"


def test_a_registered_domain_that_is_no_zone_belongs_to_the_one_above(serve: Serve) -> None:
    above = zone_of("test.", "@ NS ns.test.", "ns A 127.0.0.1", "example TXT here")
    zone, _ = find(serve, recursive(above), authoritative(above))
    assert zone.name == "test"


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.SERVFAIL])
def test_a_name_server_that_fails_hides_no_zone(serve: Serve, rcode: dns.rcode.Rcode) -> None:
    def fail(answer: dns.message.Message) -> None:
        answer.set_rcode(rcode)
        answer.authority.clear()

    served = zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1")
    zone, _ = find(serve, recursive(served), authoritative(served, change=fail))
    assert zone.name == "example.test"


def test_an_answer_about_another_name_leads_nowhere(serve: Serve) -> None:
    def lie(answer: dns.message.Message) -> None:
        answer.authority[:] = [
            zone_of(origin).find_rrset(dns.name.from_text(origin), "SOA")
            for origin in ("bob._device.example.test.", "test.")
        ]

    zone, _ = find(serve, recursive(EXAMPLE), authoritative(EXAMPLE, change=lie))
    assert zone.name == "example.test"


def test_a_delegation_that_only_the_name_server_knows_is_an_error(serve: Serve) -> None:
    """A resolver that has cached the absence of the zone leads back to the zone above."""
    parent = zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", "_device NS ns")
    with pytest.raises(PublishingError, match=r"the resolver does not know the zone _device\.example\.test"):
        find(serve, recursive(EXAMPLE), authoritative(parent))


@pytest.mark.parametrize(
    "lines",
    [
        [f"@ NS gone{number}" for number in range(1000)],
        ["@ NS ns", *(f"ns A 127.0.{number // 250}.{number % 250 + 1}" for number in range(1000))],
    ],
    ids=["names", "addresses"],
)
def test_a_zone_with_very_many_name_servers_is_an_error(serve: Serve, lines: list[str]) -> None:
    zone = zone_of("example.test.", "ns A 127.0.0.1", *lines)
    resolver = serve(recursive(zone))
    with pytest.raises(PublishingError, match=r"example\.test has too many name servers"):
        HostResolver(named_server(resolver.address)(), serve(authoritative(zone)).address.port).find_zone(ALICE)
    assert len(resolver.queries) < 10


def test_a_name_server_without_an_address_is_named(serve: Serve) -> None:
    zone = zone_of("example.test.", "@ NS ns", "@ NS gone", "ns A 127.0.0.1")
    assert find(serve, recursive(zone), authoritative(zone))[0].unresolved == ("gone.example.test",)


def test_a_zone_without_any_address_is_an_error(serve: Serve) -> None:
    zone = zone_of("example.test.", "@ NS gone")
    with pytest.raises(PublishingError, match=r"no name server of example\.test has an address"):
        find(serve, recursive(zone), authoritative(zone))


def test_an_alias_is_not_taken_for_the_zone_of_its_target(serve: Serve) -> None:
    above = zone_of("test.", "@ NS ns.test.", "ns A 127.0.0.1", "example CNAME other.test.")
    zone, _ = find(serve, recursive(above), authoritative(above))
    assert zone.name == "test"


def test_a_resolver_that_fails_and_one_that_knows_no_zone_have_their_own_errors(serve: Serve) -> None:
    def fail(answer: dns.message.Message) -> None:
        answer.set_rcode(dns.rcode.SERVFAIL)

    with pytest.raises(PublishingError, match=r"the zone of example\.test: the resolver fails \(SERVFAIL"):
        find(serve, authoritative(EXAMPLE, change=fail), authoritative(EXAMPLE))
    elsewhere = zone_of("example.org.", "@ NS ns")

    def nothing(answer: dns.message.Message) -> None:
        answer.set_rcode(dns.rcode.NXDOMAIN)

    with pytest.raises(
        PublishingError, match=r"DNS has no zone that contains example\.test; check IDENTITY_NAME and DNS_R"
    ):
        find(serve, authoritative(elsewhere, change=nothing), authoritative(EXAMPLE))


def test_updates_go_to_the_primary_unless_another_server_is_set(serve: Serve) -> None:
    port = serve(authoritative(EXAMPLE)).address.port
    resolver = HostResolver(named_server(serve(recursive(EXAMPLE)).address)(), port)
    zone = resolver.find_zone(ALICE)
    assert resolver.update_servers(zone, None) == (ServerAddress("127.0.0.1", port),)
    assert resolver.update_servers(zone, HostAddress("ns2.example.test")) == (
        ServerAddress("127.0.0.2"),
        ServerAddress("::1"),
    )
    assert resolver.update_servers(zone, HostAddress("2001:DB8::1", 5353)) == (ServerAddress("2001:db8::1", 5353),)
    with pytest.raises(PublishingError, match=r"the update server gone\.example\.test has no address in DNS"):
        resolver.update_servers(zone, HostAddress("gone.example.test"))


def test_a_name_server_is_shown_with_its_address_and_an_unusual_port() -> None:
    assert str(NameServer("ns.example.test", ServerAddress("192.0.2.1"))) == "ns.example.test (192.0.2.1)"
    assert str(NameServer("ns.example.test", ServerAddress("::1", 5353))) == "ns.example.test ([::1]:5353)"


def follow(serve: Serve, *zones: dns.zone.Zone) -> tuple[Place, Zone]:
    port = serve(authoritative(*zones)).address.port
    return HostResolver(named_server(serve(recursive(*zones)).address)(), port).follow(epoch_place(ALICE))


def test_epoch_records_are_at_their_place_in_the_zone_of_the_name(serve: Serve) -> None:
    place, zone = follow(serve, EXAMPLE)
    assert (place, zone.name) == (epoch_place(ALICE), "example.test")


def test_the_zone_of_epoch_records_may_be_a_delegation_of_their_own(serve: Serve) -> None:
    parent = zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", f"_epoch.{ALICE}. NS ns")
    child = zone_of(f"_epoch.{ALICE}.", "@ NS ns.example.test.")
    place, zone = follow(serve, parent, child)
    assert (place, zone.name) == (epoch_place(ALICE), f"_epoch.{ALICE}")


def test_an_alias_of_epoch_records_is_followed_into_another_zone(serve: Serve) -> None:
    first = zone_of(
        "example.test.",
        "@ NS ns",
        "ns A 127.0.0.1",
        f"_epoch.{ALICE}. CNAME middle.example.test.",
        "middle CNAME alice.keys.test.",
    )
    second = zone_of("keys.test.", "@ NS ns.example.test.")
    place, zone = follow(serve, first, second)
    assert (place.owner.text, str(place.type), zone.name) == ("alice.keys.test", "TXT", "keys.test")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([f"_epoch.{ALICE}. CNAME loop", f"loop CNAME _epoch.{ALICE}."], "is an alias, and more than 8 aliases follow"),
        ([f"_epoch.{ALICE}. CNAME a\\@b"], "is an alias of a name at which nothing can be published"),
    ],
)
def test_an_alias_that_leads_nowhere_is_an_error(serve: Serve, lines: list[str], words: str) -> None:
    with pytest.raises(PublishingError, match=words):
        follow(serve, zone_of("example.test.", "@ NS ns", "ns A 127.0.0.1", *lines))
