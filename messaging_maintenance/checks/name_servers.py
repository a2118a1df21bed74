"""What every authoritative address of a name's zone answers: the same, signed, over UDP and TCP."""

import dataclasses
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import dns.inet
import dns.name
import dns.rcode
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from idlib.discovery.checking import Budget, by_tag, supports, validate
from idlib.discovery.messages import Answer, Question, RecordSet, record_set, shown
from idlib.discovery.resolver import Resolver
from idlib.discovery.signatures import signatures_over
from idlib.errors import BogusError, DiscoveryError, TemporaryDiscoveryError
from idlib.output import counted
from idlib.publishing.zone import NameServer
from idlib.settings import ServerAddress
from messaging_maintenance.checks.chain import is_clock_wrong, zone_keys
from messaging_maintenance.checks.exchange import NoRouteError, Response, ask_over_tcp, ask_over_udp
from messaging_maintenance.checks.observation import LOOPBACK, Observation
from messaging_maintenance.checks.result import Item, Status, fail, ok, skip, warn
from messaging_maintenance.checks.running import in_parallel

_MAX_HOSTS: Final = 13
_MAX_SERVERS: Final = 26
_ADDRESS_TYPES: Final = {RdataType.A: 4, RdataType.AAAA: 16}
_SERIAL: Final = slice(-20, -16)
_SOA_NUMBERS_OCTETS: Final = 20
# Root servers: a.root-servers.net and k.root-servers.net. They answer everyone, and never offer recursion.
_ROOT_SERVERS: Final = ("198.41.0.4", "193.0.14.129")
_TRANSFER: Final = "wait for the zone transfer; if it does not come, look at the log of the server that is behind"
_OPEN_PORT: Final = "open port 53 for UDP and TCP"
_HINT_FOR_HIJACKING: Final = (
    "something on the path redirects DNS: set DNS_RESOLVER to a resolver with an encrypted path (https://…), pin the"
    " zone's key (DNSSEC_TRUST_ANCHORS), or use another network"
)
_HINT_FOR_PUBLISHING: Final = (
    "only publishing and key rotation need it, because they ask the zone's name servers themselves: change the record"
    " from another network, or by hand"
)


@dataclass(frozen=True, slots=True)
class Served:
    """What one address of a name server answers.

    Args:
        server: The name server.
        udp: Its answer about the TLSA records over UDP; None if there is none.
        tcp: Its answer over TCP; None if there is none.
        serial: The zone's serial number; None if it is not known.
        udp_fault: Why it gives no answer over UDP; empty if it does.
        tcp_fault: Why it gives no answer over TCP; empty if it does.
        has_route: Whether this device can send to the address at all.
    """

    server: NameServer
    udp: Response | None
    tcp: Response | None
    serial: int | None
    udp_fault: str = ""
    tcp_fault: str = ""
    has_route: bool = True

    @property
    def whole(self) -> Answer | None:
        """The answer that is not truncated; None if there is none from the zone's own server."""
        for response in (self.udp, self.tcp):
            if response is not None and _is_from_zone(response) and not response.answer.truncated:
                return response.answer
        return None

    @property
    def rdatas(self) -> tuple[bytes, ...] | None:
        """The data of the TLSA records, sorted; None if there is no usable answer."""
        if self.whole is None:
            return None
        return tuple(sorted(record.rdata for record in self.whole.records if record.record_type == RdataType.TLSA))

    @property
    def ttl(self) -> int | None:
        """The TTL of the TLSA records, which has not run down as in a cache; None if there is no such record."""
        records = () if self.whole is None else self.whole.records
        return max((record.ttl for record in records if record.record_type == RdataType.TLSA), default=None)

    @property
    def contents(self) -> frozenset[tuple[dns.name.Name, int, bytes]] | None:
        """The records of the answer without signatures, to be compared; None if there is no usable answer."""
        if self.whole is None:
            return None
        return frozenset(
            (record.owner, record.record_type, record.rdata)
            for record in self.whole.records
            if record.record_type != RdataType.RRSIG
        )

    @property
    def is_recursive(self) -> bool:
        """Whether a resolver answers, and not the zone's own server."""
        return self.udp is not None and self.udp.offers_recursion and not self.udp.is_authoritative


@dataclass(frozen=True, slots=True)
class ZoneServers:
    """The name servers of a name's zone, and what they answer.

    Args:
        zone: The zone; None if it is not known.
        served: What each address answers.
        unresolved: Names of name servers without an address.
        left_out: How many names and addresses were not asked, because there are too many.
    """

    zone: dns.name.Name | None
    served: tuple[Served, ...] = ()
    unresolved: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def hijacked(self) -> tuple[Served, ...]:
        """The addresses at which something else answers: all that answer, because one may only be misconfigured."""
        answering = tuple(one for one in self.served if one.udp is not None)
        return answering if all(one.is_recursive for one in answering) else ()

    @property
    def genuine(self) -> "ZoneServers":
        """The same without the addresses at which something else answers, or to which there is no route.

        If there is a route to none of them, that is a failure of all.
        """
        routed = [one for one in self.served if one.has_route] or self.served
        return dataclasses.replace(self, served=tuple(one for one in routed if one not in self.hijacked))


def ask_name_servers(seen: Observation, resolver: Resolver, port: int) -> ZoneServers:
    """Return what the name servers of a name's zone answer; waits for DNS, within a time limit for each query.

    Args:
        seen: What DNS says about the name.
        resolver: Finds their addresses.
        port: The port of name servers.
    """
    zones = [zone for zone in seen.zones_of(seen.start) if seen.record_set(zone, RdataType.NS) is not None]
    if not zones:
        return ZoneServers(seen.zone_of(seen.start))
    zone = zones[-1]
    named = [dns.name.from_wire(rdata, 0)[0] for rdata in _rdatas(seen.record_set(zone, RdataType.NS))]
    hosts = named[:_MAX_HOSTS]
    found = dict(zip(hosts, in_parallel([_finder(resolver, host) for host in hosts]), strict=True))
    servers = [
        NameServer(shown(host), ServerAddress(address, port)) for host, texts in found.items() for address in texts
    ]
    unresolved = tuple(shown(host) for host, texts in found.items() if not texts)
    served = in_parallel([_asker(server, seen.start, zone) for server in servers[:_MAX_SERVERS]])
    left_out = len(named) - len(hosts) + max(0, len(servers) - _MAX_SERVERS)
    return ZoneServers(zone, tuple(served), unresolved, left_out)


def check_name_servers(
    seen: Observation, servers: ZoneServers, port: int, when_silent: Callable[[str, str, str], Item] = fail
) -> list[Item]:
    """Return what there is to say about the zone's name servers.

    Args:
        seen: What DNS says about the name.
        servers: What they answer.
        port: The port of name servers.
        when_silent: Makes the item for a port that is closed if the resolver does not answer either: that is a failure
            of this device, but says nothing about another one.
    """
    network = _network_item(seen, servers, port, when_silent)
    if not servers.served:
        name = str(seen.name) if servers.zone is None else shown(servers.zone)
        why = f"the name servers of {name} are not known"
        others = ("servers.reachable", "servers.serial", "servers.agree", "servers.signatures", "servers.tcp")
        return [_found_item(servers, why), *(skip(identifier, why) for identifier in others), network]
    found = _found_item(servers, "")
    genuine = servers.genuine
    if not genuine.served:
        why = "something else answers in place of every name server"
        others = ("servers.reachable", "servers.serial", "servers.agree", "servers.signatures", "servers.tcp")
        return [found, *(skip(identifier, why) for identifier in others), network]
    if not any(one.udp is not None or one.tcp is not None for one in genuine.served):
        return [found, *_unreachable(genuine, network), network]
    return [
        found,
        _reachable_item(genuine),
        _serial_item(genuine),
        _agree_item(genuine),
        _signatures_item(seen, genuine),
        _tcp_item(genuine),
        network,
    ]


def _rdatas(records: RecordSet | None) -> tuple[bytes, ...]:
    return () if records is None else records.rdatas


def _finder(resolver: Resolver, host: dns.name.Name) -> Callable[[], list[str]]:
    def find() -> list[str]:
        found = []
        for record_type, size in _ADDRESS_TYPES.items():
            try:
                answer = resolver.ask(Question(host, record_type, checking_disabled=True)).answer
            except DiscoveryError:
                continue
            rdatas = _rdatas(answer.record_set(host, record_type))
            found += [dns.inet.inet_ntop(_family(record_type), rdata) for rdata in rdatas if len(rdata) == size]
        return found

    return find


def _asker(server: NameServer, name: dns.name.Name, zone: dns.name.Name) -> Callable[[], Served]:
    question = Question(name, RdataType.TLSA)

    def ask() -> Served:
        udp: Response | None = None
        tcp: Response | None = None
        udp_fault = tcp_fault = ""
        try:
            udp = ask_over_udp(server.address, question)
        except NoRouteError as error:
            return Served(server, None, None, None, error.fact, error.fact, has_route=False)
        except TemporaryDiscoveryError as error:
            udp_fault = error.fact
        try:
            tcp = ask_over_tcp(server.address, question)
        except TemporaryDiscoveryError as error:
            tcp_fault = error.fact
        return Served(server, udp, tcp, None if udp is None else _serial_of(server, zone), udp_fault, tcp_fault)

    return ask


def _serial_of(server: NameServer, zone: dns.name.Name) -> int | None:
    try:
        response = ask_over_udp(server.address, Question(zone, RdataType.SOA))
    except TemporaryDiscoveryError:
        return None
    rdatas = _rdatas(response.answer.record_set(zone, RdataType.SOA)) if _is_from_zone(response) else ()
    if not rdatas or len(rdatas[0]) < _SOA_NUMBERS_OCTETS:
        return None
    return int.from_bytes(rdatas[0][_SERIAL])


def _is_from_zone(response: Response) -> bool:
    return response.is_authoritative and response.answer.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def _found_item(servers: ZoneServers, why: str) -> Item:
    if servers.unresolved:
        return fail(
            "servers.found",
            f"these name servers have no address: {', '.join(servers.unresolved)}",
            "correct the zone's NS records, or add the missing address records",
        )
    if why:
        return skip("servers.found", why)
    if servers.left_out:
        evidence = f"{counted(servers.left_out, 'name server')} of {len(servers.served) + servers.left_out} not asked"
        return warn("servers.found", evidence, f"remove NS records: resolvers need no more than {_MAX_HOSTS}")
    evidence = ", ".join(str(one.server) for one in servers.served)
    unrouted = ", ".join(str(one.server) for one in servers.served if not one.has_route)
    return ok("servers.found", f"{evidence}; this device has no route to {unrouted}" if unrouted else evidence)


def _unreachable(servers: ZoneServers, network: Item) -> list[Item]:
    faults = "; ".join(f"{one.server} {one.udp_fault}" for one in servers.served)
    why = f"no name server answers this device directly: {faults}"
    others = ("servers.serial", "servers.agree", "servers.signatures", "servers.tcp")
    items = [skip(identifier, "no name server answers this device directly") for identifier in others]
    if network.status is not Status.OK:
        # The path is at fault, as far as can be seen from here.
        return [skip("servers.reachable", why), *items]
    return [fail("servers.reachable", why, "make the name servers reachable at port 53 over UDP and TCP"), *items]


def _reachable_item(servers: ZoneServers) -> Item:
    faults = [f"{one.server} {fault}" for one in servers.served if (fault := _fault_of(one))]
    if faults:
        return fail("servers.reachable", "; ".join(faults), "repair these name servers, or remove their NS records")
    return ok("servers.reachable", f"all of {len(servers.served)} give an authoritative answer over UDP")


def _fault_of(one: Served) -> str:
    if one.udp is None:
        return one.udp_fault
    if _is_from_zone(one.udp):
        return ""
    answer = "as a resolver does" if one.is_recursive else one.udp.code
    return f"does not serve the zone (it answers {answer})"


def _serial_item(servers: ZoneServers) -> Item:
    serials = {str(one.server): one.serial for one in servers.served if one.serial is not None}
    if not serials:
        return skip("servers.serial", "no name server gives the zone's serial number")
    shown_serials = ", ".join(f"{server}: {serial}" for server, serial in serials.items())
    if len(set(serials.values())) > 1:
        return fail("servers.serial", f"the name servers have different serial numbers: {shown_serials}", _TRANSFER)
    return ok("servers.serial", f"serial {next(iter(serials.values()))} everywhere")


def _agree_item(servers: ZoneServers) -> Item:
    contents = {str(one.server): one.contents for one in servers.served if one.contents is not None}
    if not contents:
        return skip("servers.agree", "no name server gives a whole answer")
    if len(set(contents.values())) > 1:
        numbers = ", ".join(f"{server}: {len(records)}" for server, records in contents.items() if records is not None)
        evidence = f"the name servers have different records (number of records: {numbers})"
        serials = {one.serial for one in servers.served if one.serial is not None}
        if len(serials) > 1:
            # servers.serial has failed for the same reason.
            return warn("servers.agree", f"{evidence}, as they have different serial numbers", _TRANSFER)
        return fail("servers.agree", evidence, "look at the logs of the name servers; see that all have the same zone")
    return ok("servers.agree", f"{len(contents)} of {len(servers.served)} have the same records")


def _signatures_item(seen: Observation, servers: ZoneServers) -> Item:
    identifier = "servers.signatures"
    if is_clock_wrong(seen, time.time()):
        return skip(identifier, "the clock of this device is outside all signatures; see clock.signatures")
    known = [] if servers.zone is None else zone_keys(seen, servers.zone)
    keys = [key for key in known if supports(int(key.algorithm))]
    if not keys:
        return skip(identifier, "the zone has no keys of a supported algorithm, or they are not known")
    faults, checked = _faults_of_signatures(seen, servers, keys)
    if faults and len(faults) == checked and isinstance(seen.verdict, BogusError):
        return skip(identifier, f"broken at every name server; see chain.signatures: {faults[0]}")
    if faults:
        return fail(identifier, "; ".join(faults), "have the zone signed again, and transferred to every name server")
    if not checked:
        return skip(identifier, "no name server has records at the name whose signature can be checked")
    return ok(identifier, f"valid at {checked} of {len(servers.served)}")


def _faults_of_signatures(seen: Observation, servers: ZoneServers, keys: Sequence[DNSKEY]) -> tuple[list[str], int]:
    """Return what is wrong with the signatures, and at how many servers they could be checked."""
    faults, checked = [], 0
    for one in servers.served:
        covered = None if one.whole is None else _first_set(one.whole, seen.start)
        if covered is None or one.whole is None or not _can_be_validated(covered, one.whole):
            continue
        checked += 1
        try:
            validate(covered, signatures_over(covered, one.whole.records), by_tag(keys), time.time(), Budget())
        except BogusError as error:
            faults.append(f"{one.server}: {error.fact}")
    return faults, checked


def _can_be_validated(covered: RecordSet, answer: Answer) -> bool:
    """Return whether records are the zone's own, neither from a wildcard nor from a DNAME (RFC 6672, section 5.3.1)."""
    if any(record.record_type == RdataType.DNAME for record in answer.records):
        return False
    labels = len(covered.owner) - 1
    return all(signature.labels >= labels for signature in signatures_over(covered, answer.records))


def _first_set(answer: Answer, name: dns.name.Name) -> RecordSet | None:
    """Return the records at the name itself: its TLSA records, or the alias."""
    return record_set(answer.records, name, RdataType.TLSA) or record_set(answer.records, name, RdataType.CNAME)


def _tcp_item(servers: ZoneServers) -> Item:
    faults = [f"{one.server} {one.tcp_fault}" for one in servers.served if one.tcp_fault]
    if faults:
        needed = any(one.udp is not None and one.udp.answer.truncated for one in servers.served)
        make = fail if needed else warn
        hint = f"{_OPEN_PORT} there: resolvers ask over TCP for answers that are too large for UDP"
        return make("servers.tcp", "; ".join(faults), hint)
    return ok("servers.tcp", f"all of {len(servers.served)} answer over TCP")


def _network_item(
    seen: Observation, servers: ZoneServers, port: int, when_silent: Callable[[str, str, str], Item]
) -> Item:
    identifier = "network.port53"
    # Look-ups do not use the port, and nothing on the path can change their answers.
    is_encrypted = seen.servers[0].channel is not None
    hijacked = [str(one.server) for one in servers.hijacked]
    if hijacked:
        return _hijacking_item(identifier, ", ".join(hijacked), is_encrypted=is_encrypted)
    if any(one.udp is not None for one in servers.served):
        return ok(identifier, "name servers of the zone answer directly")
    answers = in_parallel([_root_asker(ServerAddress(address, port)) for address in _ROOT_SERVERS])
    responses = [answer for answer in answers if answer is not None]
    if any(one.offers_recursion and not one.is_authoritative for one in responses):
        return _hijacking_item(identifier, "a root server", is_encrypted=is_encrypted)
    if responses:
        return ok(identifier, "root servers answer directly")
    resolver = seen.servers[0].address
    if seen.silence.startswith("cannot be reached") and resolver.address in LOOPBACK:
        # The resolver of this machine does not run, which says nothing about the path.
        why = f"the resolver {resolver} {seen.silence}, and root servers do not answer either"
        return skip(identifier, why, f"start the resolver; if it runs, {_OPEN_PORT} to the Internet")
    silent = "neither the zone's name servers nor root servers answer" if servers.served else "no root server answers"
    evidence = f"{silent} at port {port}: it is closed on the path"
    if is_encrypted:
        return warn(identifier, evidence, _HINT_FOR_PUBLISHING)
    hint = f"{_OPEN_PORT} to the Internet: publishing and key rotation ask the zone's name servers themselves"
    return when_silent(identifier, evidence, hint)


def _hijacking_item(identifier: str, servers: str, *, is_encrypted: bool) -> Item:
    evidence = f"something else answers in place of {servers}: DNS is intercepted on the path"
    if is_encrypted:
        return warn(identifier, evidence, _HINT_FOR_PUBLISHING)
    return fail(identifier, evidence, _HINT_FOR_HIJACKING)


def _root_asker(server: ServerAddress) -> Callable[[], Response | None]:
    def ask() -> Response | None:
        try:
            return ask_over_udp(server, Question(dns.name.root, RdataType.SOA))
        except TemporaryDiscoveryError:
            return None

    return ask


def _family(record_type: RdataType) -> int:
    return socket.AF_INET if record_type == RdataType.A else socket.AF_INET6
