"""Zones in zone-file form, answered as an authoritative name server or as a resolver does."""

from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone

from testbed.name_server import Respond, over_udp_or_tcp

SOA = "@ {ttl} IN SOA {primary} hostmaster.example.test. {serial} 3600 600 86400 1800"


def zone_of(
    origin: str, *lines: str, primary: str = "ns.example.test.", serial: int = 1, ttl: int = 3600
) -> dns.zone.Zone:
    """Return a zone with this SOA record and these lines of a zone file."""
    text = "\n".join(["$TTL 300", SOA.format(primary=primary, serial=serial, ttl=ttl), *lines])
    return dns.zone.from_text(text, origin, relativize=False, check_origin=False)


def authoritative(*zones: dns.zone.Zone, change: Callable[[dns.message.Message], None] = lambda _: None) -> Respond:
    """Return what answers for zones; each answer can be changed before it is sent."""

    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        answer = _answer(query, zones)
        change(answer)
        return over_udp_or_tcp(answer, over_tcp)

    return respond


def recursive(*zones: dns.zone.Zone) -> Respond:
    """Return what answers as a resolver that knows these zones."""

    def no_authority(answer: dns.message.Message) -> None:
        answer.flags = (answer.flags | dns.flags.RA) & ~dns.flags.AA

    return authoritative(*zones, change=no_authority)


def _answer(query: dns.message.Message, zones: tuple[dns.zone.Zone, ...]) -> dns.message.Message:
    answer = dns.message.make_response(query)
    name, record_type = query.question[0].name, query.question[0].rdtype
    around = [zone for zone in zones if zone.origin is not None and name.is_subdomain(zone.origin)]
    if not around:
        answer.set_rcode(dns.rcode.REFUSED)
        return answer
    zone = max(around, key=lambda one: len(one.origin or ()))
    origin = zone.origin
    assert origin is not None
    for cut in [candidate for candidate in zone if candidate != origin and name.is_subdomain(candidate)]:
        if (servers := zone.get_rrset(cut, dns.rdatatype.NS)) is not None:
            answer.authority.append(servers)
            return answer
    answer.flags |= dns.flags.AA
    if (rrset := zone.get_rrset(name, record_type)) is not None:
        answer.answer.append(rrset)
    elif (alias := zone.get_rrset(name, dns.rdatatype.CNAME)) is not None:
        answer.answer.append(alias)
    else:
        start = zone.get_rrset(origin, dns.rdatatype.SOA)
        assert start is not None
        answer.authority.append(start)
        if not any(other.is_subdomain(name) for other in zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer
