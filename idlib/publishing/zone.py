"""The zone of a name, its primary server and all of its name servers.

The resolver is asked only about names that exist. It would remember for an hour that a name does not exist, and then
hide a record that is published there a moment later; about names below the registered domain, name servers are asked.

The answers are not authenticated, and need not be: a false one makes a change fail or a read-back report other records,
but a change is signed with a key, and what others trust is what DNSSEC authenticates for them.
"""

import time
from collections.abc import Iterable, Sized
from dataclasses import dataclass, replace
from typing import Final

import dns.exception
import dns.name
import dns.rcode
import dns.resolver
import dns.rrset
from dns.rdatatype import RdataType

from idlib.discovery.channel import ChannelError
from idlib.discovery.messages import MAX_ALIASES, Answer, Question, UnusableAnswerError
from idlib.discovery.resolver import Server, exchange, servers_from
from idlib.errors import MalformedNameError, PublishingError
from idlib.names import IdentityName
from idlib.publishing.record_types import Place
from idlib.settings import DNS_PORT, HostAddress, ServerAddress, Settings
from idlib.zones import registrable_domain

_SECONDS: Final = 10.0
_NAME_SERVER_SECONDS: Final = 3.0
_MAX_NAME_SERVERS: Final = 32
_MAX_ADDRESSES: Final = 64
_APEX_TYPES: Final = frozenset({RdataType.SOA, RdataType.NS})
_HINT: Final = "check the network and DNS_RESOLVER, and try again"


@dataclass(frozen=True, slots=True)
class NameServer:
    """One address of a name server of a zone.

    Args:
        host: Its name, as in the zone's NS record.
        address: Where it is asked.
    """

    host: str
    address: ServerAddress

    def __str__(self) -> str:
        return f"{self.host} ({self.address.address if self.address.port == DNS_PORT else self.address})"


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and who serves it.

    Args:
        name: Without the trailing dot.
        primary: The name of the primary server, from the SOA record.
        negative_ttl: For how many seconds resolvers may remember that a record is missing (RFC 2308, section 5).
        servers: Each address of each name server.
        unresolved: Names of name servers that have no address.
    """

    name: str
    primary: str
    negative_ttl: int
    servers: tuple[NameServer, ...]
    unresolved: tuple[str, ...]


class HostResolver:
    """Looks up zones and hosts.

    Args:
        servers: The resolvers to ask, in order.
        server_port: The port of name servers.
    """

    def __init__(self, servers: Iterable[Server], server_port: int = DNS_PORT) -> None:
        self.server_port = server_port
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = [_asked_by_dnspython(server) for server in servers]
        self._resolver.lifetime = _SECONDS

    @classmethod
    def from_settings(cls, settings: Settings) -> "HostResolver":
        """Return a resolver that asks the server of DNS_RESOLVER, or those of the system.

        Raises:
            ConfigurationError: DNS_RESOLVER and DNS_CA_FILE exclude each other, or the file cannot be used.
        """
        return cls(servers_from(settings)(), settings.dns_server_port)

    def find_zone(self, name: IdentityName) -> Zone:
        """Return the zone that a name is in.

        Args:
            name: The name, which need not exist.

        Raises:
            PublishingError: The zone or its name servers cannot be found.
        """
        owner = dns.name.from_text(name.text)
        zone = self._zone(dns.name.from_text(registrable_domain(name)))
        while (cut := _cut_below(zone, owner)) is not None:
            zone = self._zone(cut)
            # Otherwise the same delegation would be followed again and again.
            if dns.name.from_text(zone.name) != cut:
                raise PublishingError(
                    f"the resolver does not know the zone {_shown(cut)}, to which name servers delegate",
                    "check the name servers of that zone; if it is new, wait until the resolver has forgotten its"
                    " absence",
                )
        return zone

    def follow(self, place: Place) -> tuple[Place, Zone]:
        """Return where records must be so that they are found at a place, and the zone of that.

        Aliases (CNAME records) are followed: the records of an alias are those of its target.

        Args:
            place: Where the records are looked up.

        Raises:
            PublishingError: A zone or its name servers cannot be found, or the aliases lead to no usable name.
        """
        owner = place.owner
        for _ in range(MAX_ALIASES + 1):
            zone = self.find_zone(owner)
            target = _alias_target(zone, owner)
            if target is None:
                return replace(place, owner=owner), zone
            try:
                owner = IdentityName(_shown(target))
            except MalformedNameError as error:
                raise PublishingError(
                    f"{owner} is an alias of a name at which nothing can be published: {error.fact}",
                    "change or remove its CNAME record",
                ) from error
        raise PublishingError(
            f"{place.owner} is an alias, and more than {MAX_ALIASES} aliases follow",
            "change or remove its CNAME record",
        )

    def _zone(self, apex: dns.name.Name) -> Zone:
        origin, start = self._start_of_authority(apex)
        try:
            hosts = sorted(str(record.target) for record in self._resolver.resolve(origin, "NS"))
        except dns.exception.DNSException as error:
            raise _unknown(f"the name servers of {_shown(origin)}", error) from error
        _require_few(hosts, _MAX_NAME_SERVERS, origin)
        found = {host: self.addresses(host) for host in hosts}
        servers = tuple(
            NameServer(host.rstrip("."), ServerAddress(address, self.server_port))
            for host, addresses in found.items()
            for address in addresses
        )
        _require_few(servers, _MAX_ADDRESSES, origin)
        unresolved = tuple(host.rstrip(".") for host, addresses in found.items() if not addresses)
        if not servers:
            raise PublishingError(
                f"no name server of {_shown(origin)} has an address", "check the zone's NS records (see dnsviz.net)"
            )
        # Its TTL as name servers have it; that of the resolver's cache has partly run out.
        answer = _ask(servers, origin, RdataType.SOA)
        of_servers = answer.record_set(origin, RdataType.SOA) if answer else None
        negative_ttl = min(of_servers.ttl if of_servers else start[0].minimum, start[0].minimum)
        return Zone(_shown(origin), str(start[0].mname).rstrip("."), negative_ttl, servers, unresolved)

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a host, IPv4 first; empty if it has none or DNS cannot be asked.

        Args:
            host: A name, or an IP address.
        """
        try:
            return (dns.inet.canonicalize(host),)
        except (ValueError, dns.exception.DNSException):
            pass
        found: list[str] = []
        for record_type in ("A", "AAAA"):
            try:
                found += [record.address for record in self._resolver.resolve(host, record_type)]
            except dns.exception.DNSException:
                continue
        return tuple(found)

    def update_servers(self, zone: Zone, configured: HostAddress | None) -> tuple[ServerAddress, ...]:
        """Return the addresses of the server that accepts updates, at least one.

        Args:
            zone: The zone to update.
            configured: DNS_UPDATE_SERVER; None for the zone's primary server.

        Raises:
            PublishingError: It has no address.
        """
        host = configured or HostAddress(zone.primary, self.server_port)
        addresses = self.addresses(host.host)
        if not addresses:
            raise PublishingError(
                f"the update server {host.host} has no address in DNS", "set DNS_UPDATE_SERVER to the right server"
            )
        return tuple(ServerAddress(address, host.port) for address in addresses)

    def _start_of_authority(self, name: dns.name.Name) -> "tuple[dns.name.Name, dns.rrset.RRset]":
        candidate = name
        while candidate != dns.name.root:
            try:
                answer = self._resolver.resolve(candidate, "SOA", raise_on_no_answer=False)
            except dns.resolver.NXDOMAIN:
                answer = None
            except dns.exception.DNSException as error:
                raise _unknown(f"the zone of {_shown(name)}", error) from error
            # Of an alias, the answer is about its target.
            if answer is not None and answer.rrset is not None and answer.rrset.name == candidate:
                return candidate, answer.rrset
            candidate = candidate.parent()
        raise PublishingError(f"DNS has no zone that contains {_shown(name)}", "check IDENTITY_NAME and DNS_RESOLVER")


def _cut_below(zone: Zone, owner: dns.name.Name) -> dns.name.Name | None:
    """Return the apex of a zone that is delegated from this one and has a name; None if this zone has it."""
    origin = dns.name.from_text(zone.name)
    answer = _ask(zone.servers, owner, RdataType.SOA)
    records = (*answer.records, *answer.authority) if answer else ()
    apexes = [record.owner for record in records if record.record_type in _APEX_TYPES]
    below = [apex for apex in apexes if owner.is_subdomain(apex) and apex.is_subdomain(origin) and apex != origin]
    return below[0] if below else None


def _alias_target(zone: Zone, name: IdentityName) -> dns.name.Name | None:
    """Return the name that this one is an alias of; None if it is not an alias."""
    owner = dns.name.from_text(name.text)
    answer = _ask(zone.servers, owner, RdataType.CNAME)
    alias = answer.record_set(owner, RdataType.CNAME) if answer else None
    return dns.name.from_wire(alias.rdatas[0], 0)[0] if alias else None


def _ask(servers: Iterable[NameServer], owner: dns.name.Name, record_type: RdataType) -> Answer | None:
    """Return the first answer of these servers about the records of a name; None if none answers."""
    question = Question(owner, record_type, recursion_desired=False)
    for server in servers:
        try:
            answer = exchange(server.address, question, time.monotonic() + _NAME_SERVER_SECONDS)
        except (UnusableAnswerError, OSError):
            continue
        if answer.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return answer
    return None


def _require_few(servers: Sized, limit: int, origin: dns.name.Name) -> None:
    """Raise an error if there are so many that asking each of them would take hours."""
    if len(servers) > limit:
        raise PublishingError(
            f"{_shown(origin)} has too many name servers: {len(servers)} names or addresses; at most {limit} are asked",
            "check the zone's NS records and their addresses; something on the path may alter answers",
        )


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def _asked_by_dnspython(server: Server) -> dns.nameserver.Nameserver:
    if server.channel is not None:
        # Imported late: most resolvers are asked in clear text.
        from idlib.publishing.encrypted_server import EncryptedServer

        return EncryptedServer(server.channel, str(server.address))
    if not isinstance(server.address, ServerAddress):
        raise TypeError(server.address)  # nothing may be sent in clear text to this server
    return dns.nameserver.Do53Nameserver(server.address.address, server.address.port)


def _channel_error(error: dns.exception.DNSException) -> ChannelError | None:
    """Return why the encrypted path failed, if it is what ended the look-up."""
    attempts = error.kwargs.get("errors") or ()
    return next((fault for *_, fault, _ in attempts if isinstance(fault, ChannelError)), None)


def _unknown(what: str, error: dns.exception.DNSException) -> PublishingError:
    if (failed := _channel_error(error)) is not None:
        return PublishingError(f"cannot find {what}: the resolver {failed.fault}", failed.hint)
    if isinstance(error, dns.resolver.NoNameservers):
        return PublishingError(
            f"cannot find {what}: the resolver fails (SERVFAIL: the zone may be broken, or DNSSEC validation fails)",
            "see dnsviz.net for what is wrong with the zone",
        )
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return PublishingError(f"cannot find {what}: the resolver did not answer in time", _HINT)
    return PublishingError(f"cannot find {what}: DNS has no answer", _HINT)
