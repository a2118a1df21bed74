"""Authoritative servers of one zone each that misbehave, and one that serves what Knot refuses to load."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rrset
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from testbed.daemons.delay import Delay
from testbed.daemons.process import free_port
from testbed.dns_lab import material
from testbed.name_server import Respond, Server, over_udp_or_tcp
from testbed.name_server import Zone as SelfSigned

OCTETS: Final = "octets.test"
OCTETS_OWNER: Final = f"device.{OCTETS}"
CLOSED: Final = "closed.test"
REFUSED_SIGNED: Final = "refused-signed.test"


@dataclass(frozen=True)
class Served:
    """A zone with a separate server.

    Args:
        port: Where that listens on loopback.
        anchor: A DS record for the zone, as a zone-file line: of its key, or of an unrelated one if it has none.
        signed: Whether the validating resolver has it as a trust anchor.
    """

    port: int
    anchor: str
    signed: bool = False


@contextmanager
def misbehaving(directory: Path) -> Iterator[dict[str, Served]]:
    """Yield the zones by their names, each with its running server, as far away as name servers are.

    Args:
        directory: An existing directory for a log.
    """
    octets = _octets_zone()
    with ExitStack() as stack:
        zones = {CLOSED: Served(free_port(), _anchor(CLOSED))}
        targets = {}
        for name, respond in _SERVERS.items():
            zones[name] = Served(free_port(), _anchor(name), signed=name == REFUSED_SIGNED)
            targets[zones[name].port] = _listening(respond, stack)
        zones[OCTETS] = Served(free_port(), octets.ds().strip(), signed=True)
        targets[zones[OCTETS].port] = _listening(
            lambda query, over_tcp: over_udp_or_tcp(octets.answer(query), over_tcp), stack
        )
        place = directory / "misbehaving"
        place.mkdir()
        stack.enter_context(Delay(place, targets))
        yield zones


def _listening(respond: Respond, stack: ExitStack) -> int:
    server = Server(respond)
    stack.callback(server.close)
    return server.address.port


def _octets_zone() -> SelfSigned:
    zone = SelfSigned(dns.name.from_text(OCTETS))
    zone.add_text("@", "SOA", f"ns.{OCTETS}. hostmaster.{OCTETS}. 1 3600 600 86400 3600")
    records = dns.rrset.RRset(zone.name(OCTETS_OWNER + "."), RdataClass.IN, RdataType.TLSA)
    records.ttl = 60
    for octets in (b"", b"\3", material.rdata("3 0 0 p256", OCTETS_OWNER)):
        records.items[dns.rdata.GenericRdata(RdataClass.IN, RdataType.TLSA, octets)] = None
    zone.add(records)
    now = datetime.now(UTC)
    for rrset in zone.records.values():
        zone.sign(rrset, now - timedelta(days=1), now + timedelta(days=1))
    return zone


def _anchor(zone: str) -> str:
    return f"{zone}. IN DS 1 13 2 {'00' * 32}"


def _failing(rcode: dns.rcode.Rcode) -> Respond:
    def respond(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
        response = dns.message.make_response(query)
        response.set_rcode(rcode)
        return [response.to_wire()]

    return respond


def _truncating(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return [response.to_wire()]


def _half(query: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TLSA", "3 0 0 " + "AB" * 200))
    wire = response.to_wire()
    return [wire[: len(wire) // 2]]


_SERVERS: Final[dict[str, Respond]] = {
    "silent.test": lambda query, over_tcp: [],
    "refused.test": _failing(dns.rcode.REFUSED),
    REFUSED_SIGNED: _failing(dns.rcode.REFUSED),
    "formerr.test": _failing(dns.rcode.FORMERR),
    "servfail.test": _failing(dns.rcode.SERVFAIL),
    "truncating.test": _truncating,
    "garbage.test": lambda query, over_tcp: [b"garbage" * 9],
    "half.test": _half,
}
