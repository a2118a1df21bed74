"""An authoritative name server for one signed zone, on a free port of loopback, over UDP and TCP.

The zone must not have delegations or wildcards.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.zone

from idlib.settings import ServerAddress
from lab.background import in_background
from lab.listener import LOOPBACK, listening
from lab.zone import SignedZone

_UDP_OCTETS_WITHOUT_EDNS: Final = 512
_UDP_OCTETS: Final = 1232
_TCP_OCTETS: Final = 65535
_TCP_IDLE_SECONDS: Final = 10
_ATTEMPTS: Final = 20
_ALIASES: Final = 8


def running(zone: SignedZone) -> AbstractContextManager[ServerAddress]:
    """Serve the current version of a zone until the context is left; yield the address for UDP and TCP."""
    return in_background(_serving(zone), "name-server")


def answer(zone: dns.zone.Zone, query: dns.message.Message) -> dns.message.Message:
    """Return the authoritative answer of a signed zone, with signatures and NSEC records if the query requests them.

    Args:
        zone: Signed, with absolute names.
        query: The query.

    Raises:
        dns.exception.DNSException: The message is not a query.
    """
    response = dns.message.make_response(query, our_payload=_UDP_OCTETS)
    response.ednsflags |= query.ednsflags & dns.flags.DO
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        response.set_rcode(dns.rcode.NOTIMP)
        return response
    question = query.question[0]
    origin = _origin(zone)
    if question.rdclass != dns.rdataclass.IN or not question.name.is_subdomain(origin):
        response.set_rcode(dns.rcode.REFUSED)
    elif dns.rdatatype.is_metatype(question.rdtype):
        response.set_rcode(dns.rcode.NOTIMP)
    else:
        response.flags |= dns.flags.AA
        _fill(response, zone, question.name, question.rdtype)
    return response


def _fill(
    response: dns.message.Message, zone: dns.zone.Zone, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> None:
    for _ in range(_ALIASES):
        if zone.get_rdataset(name, rdtype) is not None:
            _add(response, dns.message.ANSWER, zone, name, rdtype)
            return
        alias = zone.get_rdataset(name, dns.rdatatype.CNAME)
        if alias is None:
            _deny(response, zone, name)
            return
        _add(response, dns.message.ANSWER, zone, name, dns.rdatatype.CNAME)
        name = alias[0].target
        if not name.is_subdomain(_origin(zone)):
            return


def _deny(response: dns.message.Message, zone: dns.zone.Zone, name: dns.name.Name) -> None:
    origin = _origin(zone)
    _add(response, dns.message.AUTHORITY, zone, origin, dns.rdatatype.SOA)
    owners = {_owner_of_proof(zone, name)}
    if not _exists(zone, name):
        response.set_rcode(dns.rcode.NXDOMAIN)
        encloser = name.parent()
        while not _exists(zone, encloser):
            encloser = encloser.parent()
        owners.add(_owner_of_proof(zone, dns.name.Name((b"*", *encloser.labels))))
    if response.ednsflags & dns.flags.DO:
        for owner in sorted(owners):
            _add(response, dns.message.AUTHORITY, zone, owner, dns.rdatatype.NSEC)


def _exists(zone: dns.zone.Zone, name: dns.name.Name) -> bool:
    return any(existing.is_subdomain(name) for existing in zone)


def _owner_of_proof(zone: dns.zone.Zone, name: dns.name.Name) -> dns.name.Name:
    """Return the owner of the NSEC record that matches or covers a name (RFC 4034, section 4)."""
    owner: dns.name.Name = max(existing for existing in zone if existing <= name)
    return owner


def _add(
    response: dns.message.Message,
    section: int,
    zone: dns.zone.Zone,
    name: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
) -> None:
    records = response.sections[section]
    records.append(zone.find_rrset(name, rdtype))
    if response.ednsflags & dns.flags.DO:
        records.append(zone.find_rrset(name, dns.rdatatype.RRSIG, rdtype))


def _origin(zone: dns.zone.Zone) -> dns.name.Name:
    if zone.origin is None:
        raise ValueError("the zone has no name")
    return zone.origin


class _UdpProtocol(asyncio.DatagramProtocol):
    def __init__(self, respond: Callable[[bytes], dns.message.Message]) -> None:
        self._respond = respond
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with suppress(dns.exception.DNSException):
            response = self._respond(data)
            limit = min(max(response.request_payload, _UDP_OCTETS_WITHOUT_EDNS), _UDP_OCTETS)
            wire = response.to_wire(max_size=limit, prefer_truncation=True)
            if self._transport is not None:
                self._transport.sendto(wire, addr)


@asynccontextmanager
async def _serving(zone: SignedZone) -> AsyncIterator[ServerAddress]:
    def respond(wire: bytes) -> dns.message.Message:
        return answer(zone.snapshot, dns.message.from_wire(wire))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(dns.exception.DNSException, OSError, EOFError, TimeoutError):
            while True:
                async with asyncio.timeout(_TCP_IDLE_SECONDS):
                    length = int.from_bytes(await reader.readexactly(2))
                    wire = respond(await reader.readexactly(length)).to_wire(max_size=_TCP_OCTETS)
                    writer.write(len(wire).to_bytes(2) + wire)
                    await writer.drain()

    udp_socket, tcp_socket = _bind_both()
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _UdpProtocol(respond), sock=udp_socket)
    async with listening(converse, tcp_socket) as address:
        yield address
    udp.close()


def _bind_both() -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket on one free port."""
    for _ in range(_ATTEMPTS):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            udp.bind((LOOPBACK, 0))
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
    raise OSError("no port of loopback is free for both UDP and TCP")
