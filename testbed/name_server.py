"""A zone that signs itself, and a DNS server with answers that a test defines, both in this process."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from idlib.discovery.messages import Question, read_answer
from idlib.discovery.resolver import Reply, Resolver
from idlib.discovery.resolver import Server as ResolvingServer
from idlib.settings import ServerAddress

Respond = Callable[[dns.message.Message, bool], list[bytes]]
UDP_OCTETS = 1232
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Zone:
    """A zone with one key; by default its signatures are valid from a day before NOW to a day after."""

    origin: dns.name.Name
    algorithm: int = 13
    records: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = field(default_factory=dict)
    signatures: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.private_key = _new_key(self.algorithm)
        self.key: DNSKEY = dns.dnssec.make_dnskey(self.private_key.public_key(), self.algorithm, flags=257)
        self.add(dns.rrset.from_rdata(self.origin, 300, self.key))

    def name(self, text: str) -> dns.name.Name:
        return dns.name.from_text(text, self.origin)

    def add_text(self, owner: str, record_type: str, *texts: str, ttl: int = 300) -> dns.rrset.RRset:
        return self.add(dns.rrset.from_text(self.name(owner), ttl, "IN", record_type, *texts))

    def add(self, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
        self.records[rrset.name, rrset.rdtype] = rrset
        self.sign(rrset)
        return rrset

    def sign(
        self,
        rrset: dns.rrset.RRset,
        since: datetime = NOW - timedelta(days=1),
        until: datetime = NOW + timedelta(days=1),
    ) -> None:
        signature = dns.dnssec.sign(
            rrset, self.private_key, self.origin, self.key, inception=since, expiration=until, verify=False
        )
        self.signatures[rrset.name, rrset.rdtype] = dns.rrset.from_rdata(rrset.name, rrset.ttl, signature)

    def ds(self, digest: str = "SHA256") -> str:
        return f"{self.origin} IN DS {dns.dnssec.make_ds(self.origin, self.key, digest)}\n"

    def dnskey(self) -> str:
        return f"{self.origin} 3600 IN DNSKEY {self.key} ; the key-signing key\n"

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Answer as an authoritative server does: through aliases inside the zone, with signatures."""
        response = dns.message.make_response(query)
        question = query.question[0]
        name = question.name
        while True:
            for record_type in (question.rdtype, dns.rdatatype.CNAME):
                if rrset := self.records.get((name, record_type)):
                    response.answer.append(rrset)
                    if signature := self.signatures.get((name, record_type)):
                        response.answer.append(signature)
                    break
            if not rrset or rrset.rdtype == question.rdtype:
                return response
            name = rrset[0].target


def _new_key(
    algorithm: int,
) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    if algorithm == 8:
        return rsa.generate_private_key(65537, 2048)
    if algorithm == 15:
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if algorithm == 13 else ec.SECP384R1())


class Server:
    """A DNS server on loopback, over UDP and TCP at one port; `respond` returns the bytes of each of its answers."""

    def __init__(self, respond: Respond, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.respond = respond
        self.queries: list[dns.message.Message] = []
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._udp, self._tcp = self._bind(family, host)
        self.address = ServerAddress(host, self._udp.getsockname()[1])
        self._threads = [threading.Thread(target=serve) for serve in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _bind(family: socket.AddressFamily, host: str) -> tuple[socket.socket, socket.socket]:
        while True:
            udp = socket.socket(family, socket.SOCK_DGRAM)
            udp.bind((host, 0))
            tcp = socket.socket(family, socket.SOCK_STREAM)
            try:
                tcp.bind((host, udp.getsockname()[1]))
            except OSError:
                udp.close()
                tcp.close()
                continue
            tcp.listen()
            return udp, tcp

    def _answers(self, wire: bytes, *, over_tcp: bool) -> list[bytes]:
        query = dns.message.from_wire(wire)
        self.queries.append(query)
        return self.respond(query, over_tcp)

    def _serve_udp(self) -> None:
        while True:
            wire, client = self._udp.recvfrom(65535)
            if not wire:
                return
            for answer in self._answers(wire, over_tcp=False):
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                size = connection.recv(2, socket.MSG_WAITALL)
                if not size:
                    return
                wire = connection.recv(int.from_bytes(size), socket.MSG_WAITALL)
                for answer in self._answers(wire, over_tcp=True):
                    connection.sendall(len(answer).to_bytes(2) + answer)

    def close(self) -> None:
        family = self._udp.family
        with socket.socket(family, socket.SOCK_DGRAM) as farewell:
            farewell.sendto(b"", self._udp.getsockname()[:2])
        socket.create_connection(self._tcp.getsockname()[:2]).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()


def over_udp_or_tcp(answer: dns.message.Message, over_tcp: bool) -> list[bytes]:  # noqa: FBT001
    """Return an answer's bytes, truncated over UDP if there are too many."""
    wire = answer.to_wire(max_size=65535)
    if over_tcp or len(wire) <= UDP_OCTETS:
        return [wire]
    truncated = dns.message.Message(answer.id)
    truncated.flags = answer.flags | dns.flags.TC
    truncated.question = answer.question
    return [truncated.to_wire()]


class Answering(Resolver):
    """Sends no queries: a test's function returns the bytes of the answer, which are parsed like any other."""

    def __init__(self, respond: Callable[[dns.message.Message], dns.message.Message]) -> None:
        super().__init__()
        self.respond = respond
        self.questions: list[Question] = []
        self.trusted = True

    def ask(self, question: Question) -> Reply:
        self.questions.append(question)
        response = self.respond(dns.message.from_wire(question.to_wire(1)))
        answer = read_answer(response.to_wire(max_size=65535), question, 1)
        return Reply(answer, ResolvingServer(ServerAddress("192.0.2.53"), self.trusted))
