"""Resolvers that lie: each forwards queries to the lab's validating resolver, and changes the answers."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import dns.dnssec
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from testbed.daemons.process import LOOPBACK
from testbed.dns_lab import zones
from testbed.dns_lab.conditions import BOGUS, NONE, NOT_SECURE, TEMPORARY, UNUSABLE, Outcome
from testbed.dns_lab.signing import Key

ASKED: Final = "one-record._device.good.test"
_OTHER: Final = "one-rsa-record._device.good.test"
_EXPIRED: Final = "expired._device.broken.test"
_SECONDS_BEFORE_ASKING_AGAIN: Final = 1.5
_ALIAS: Final = "alias._device.good.test"
_TRUE: Final = ("3 0 0 p256",)
_OTHER_RECORD: Final = ("3 0 0 rsa",)
# A trusted resolver can lie: the forger's record is found, and is unusable.
_FORGED: Final = UNUSABLE
_ANOTHER_ADDRESS: Final = "127.0.0.2"
_HEADER_OCTETS: Final = 12
_MAX_MESSAGE: Final = 65535

_FORGERS_KEY: Final = Key.generate(zones.GOOD)

# Returns the bytes of each answer to a query; the truth is the validating resolver's answer.
Lie = Callable[[dns.message.Message, dns.message.Message], Sequence[bytes]]
Change = Callable[[dns.message.Message], None]


@dataclass(frozen=True, eq=False)
class Liar:
    """A resolver that lies.

    Args:
        title: The kind of lie.
        trusted: The outcome if its AD bit is trusted: its answer is accepted if it is well-formed.
        pinned: The outcome with pinned anchors.
        over_udp: What it sends over UDP.
        over_tcp: What it sends over TCP; None is the same as over UDP.
        asked: The name that is looked up.
        about: The name that it looks up instead of the name in the query; empty for the same name.
        answers_from: Another address from which it answers, or another port of the same.
        seconds: How long it waits before it answers.
        dribbles: Whether it sends an answer over TCP byte by byte, one a second.
    """

    title: str
    trusted: Outcome
    pinned: Outcome
    over_udp: Lie
    over_tcp: Lie | None = None
    asked: str = ASKED
    about: str = ""
    answers_from: str = ""
    seconds: float = 0
    dribbles: bool = False


@contextmanager
def lying(liar: Liar, upstream: int) -> Iterator[int]:
    """Yield the port of a running liar.

    Args:
        liar: Which.
        upstream: The port of the resolver that does not lie.
    """
    stopped = threading.Event()
    with _sockets() as (udp, tcp):
        threads = [
            threading.Thread(target=_serve_udp, args=(udp, liar, upstream, stopped)),
            threading.Thread(target=_serve_tcp, args=(tcp, liar, upstream, stopped)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield udp.getsockname()[1]
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


@contextmanager
def _sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield sockets for UDP and TCP at one free port, which look around often enough to be stopped."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((LOOPBACK, 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            tcp.listen()
            udp.settimeout(0.1)
            tcp.settimeout(0.1)
            yield udp, tcp
            return


def _serve_udp(udp: socket.socket, liar: Liar, upstream: int, stopped: threading.Event) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as another:
        another.bind((liar.answers_from or LOOPBACK, 0))
        speaker = another if liar.answers_from else udp
        while not stopped.is_set():
            try:
                wire, client = udp.recvfrom(_MAX_MESSAGE)
            except TimeoutError:
                continue
            query = dns.message.from_wire(wire)
            try:
                truth = _truth(query, liar, upstream)
            except dns.exception.DNSException:
                # The machine is busy; the client repeats its query.
                continue
            answers = liar.over_udp(query, truth)
            stopped.wait(liar.seconds)
            for answer in answers:
                speaker.sendto(answer, client)


def _serve_tcp(tcp: socket.socket, liar: Liar, upstream: int, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            connection, _ = tcp.accept()
        except TimeoutError:
            continue
        with connection:
            size = int.from_bytes(connection.recv(2, socket.MSG_WAITALL))
            query = dns.message.from_wire(connection.recv(size, socket.MSG_WAITALL))
            for answer in (liar.over_tcp or liar.over_udp)(query, _truth(query, liar, upstream)):
                octets = len(answer).to_bytes(2) + answer
                if liar.dribbles:
                    _dribble(connection, octets, stopped)
                else:
                    connection.sendall(octets)


def _dribble(connection: socket.socket, octets: bytes, stopped: threading.Event) -> None:
    for octet in octets:
        try:
            connection.sendall(bytes((octet,)))
        except OSError:
            return
        if stopped.wait(1):
            return


def _truth(query: dns.message.Message, liar: Liar, upstream: int) -> dns.message.Message:
    asked = dns.message.from_wire(query.to_wire())
    if liar.asked == _EXPIRED:
        asked.flags |= dns.flags.CD
    if liar.about and query.question[0].rdtype == RdataType.TLSA:
        asked.question = [dns.rrset.RRset(dns.name.from_text(liar.about), RdataClass.IN, RdataType.TLSA)]
    try:
        return dns.query.udp_with_fallback(asked, LOOPBACK, _SECONDS_BEFORE_ASKING_AGAIN, upstream)[0]
    except dns.exception.Timeout:
        # Unbound 1.17 leaves one query unanswered when it first announces a zone's trust anchor (RFC 8145).
        return dns.query.udp_with_fallback(asked, LOOPBACK, 10, upstream)[0]


def _wire(message: dns.message.Message) -> bytes:
    return message.to_wire(max_size=_MAX_MESSAGE)


def _honestly(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
    return [_wire(truth)]


def _changed(change: Change, record_type: RdataType = RdataType.TLSA) -> Lie:
    """Return a lie that changes answers about one type of records."""

    def lie(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
        if query.question[0].rdtype == record_type:
            change(truth)
        return [_wire(truth)]

    return lie


def _sent(send: Callable[[bytes], Sequence[bytes]]) -> Lie:
    """Return a lie that sends something else instead of an answer's bytes."""
    return lambda query, truth: send(_wire(truth))


def _failing(rcode: dns.rcode.Rcode, *extended_errors: int, unless_disabled: bool = False) -> Lie:
    def lie(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
        if unless_disabled and query.flags & dns.flags.CD:
            return [_wire(truth)]
        response = dns.message.make_response(query)
        options: list[dns.edns.Option] = [
            dns.edns.EDEOption(dns.edns.EDECode.make(code), "why") for code in extended_errors
        ]
        response.use_edns(0, options=options)
        response.set_rcode(rcode)
        return [_wire(response)]

    return lie


def _truncated(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return [_wire(response)]


def _renumbered(wire: bytes) -> bytes:
    return bytes((wire[0] ^ 0xFF, *wire[1:]))


def _with_question(name: str, record_type: RdataType = RdataType.TLSA) -> Change:
    def change(message: dns.message.Message) -> None:
        message.question = [dns.rrset.RRset(dns.name.from_text(name), RdataClass.IN, record_type)]

    return change


def _rename(message: dns.message.Message, name: str) -> None:
    for rrset in message.answer:
        rrset.name = dns.name.from_text(name)


def _vouch(message: dns.message.Message) -> None:
    message.flags |= dns.flags.AD


def _do_not_vouch(message: dns.message.Message) -> None:
    message.flags &= ~dns.flags.AD


def _strip(message: dns.message.Message) -> None:
    message.answer = [rrset for rrset in message.answer if rrset.rdtype != RdataType.RRSIG]


def _unsigned_forgery(message: dns.message.Message) -> None:
    message.answer = [_other_records(message.question[0].name)]


def _forgery_under_the_old_signature(message: dns.message.Message) -> None:
    message.answer = [
        _other_records(rrset.name) if rrset.rdtype == RdataType.TLSA else rrset for rrset in message.answer
    ]


def _other_records(owner: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_text(owner, 60, RdataClass.IN, RdataType.TLSA, "3 0 0 AB")


def _deny(rcode: dns.rcode.Rcode) -> Change:
    def change(message: dns.message.Message) -> None:
        message.answer = []
        message.set_rcode(rcode)

    return change


def _of_another_name(message: dns.message.Message) -> None:
    _with_question(ASKED)(message)
    _rename(message, ASKED)


def _records_for_another_name(message: dns.message.Message) -> None:
    message.answer.append(_other_records(dns.name.from_text(_OTHER)))


def _another_class(message: dns.message.Message) -> None:
    for rrset in message.answer:
        rrset.rdclass = RdataClass.CH


def _signed_by_the_forger(records: dns.rrset.RRset, key: Key = _FORGERS_KEY) -> list[dns.rrset.RRset]:
    return [records, dns.rrset.from_rdata(records.name, records.ttl, key.sign(records))]


def _another_zone(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
    """Serve the whole zone, signed with the forger's key."""
    owner = query.question[0].name
    if query.question[0].rdtype == RdataType.DNSKEY:
        truth.answer = _signed_by_the_forger(dns.rrset.from_rdata(owner, 60, _FORGERS_KEY.public))
    else:
        truth.answer = _signed_by_the_forger(_other_records(owner))
    return [_wire(truth)]


def _another_key_beside(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
    """Add the forger's key to the zone's keys."""
    owner = query.question[0].name
    if query.question[0].rdtype == RdataType.DNSKEY:
        keys = next(rrset for rrset in truth.answer if rrset.rdtype == RdataType.DNSKEY)
        keys.add(_FORGERS_KEY.public)
        truth.answer += _signed_by_the_forger(keys)[1:]
    else:
        truth.answer = _signed_by_the_forger(_other_records(owner))
    return [_wire(truth)]


def _invented_cut(query: dns.message.Message, truth: dns.message.Message) -> list[bytes]:
    """Pretend that the name is in a separate signed zone, with a DS record that only the forger has signed."""
    key = Key.generate("_device.good.test")
    owner = query.question[0].name
    if query.question[0].rdtype == RdataType.TLSA:
        truth.answer = _signed_by_the_forger(_other_records(owner), key)
    elif query.question[0].rdtype == RdataType.DS:
        truth.answer = _signed_by_the_forger(dns.rrset.from_text(owner, 60, "IN", "DS", key.ds))
    return [_wire(truth)]


def _alias(target: str, *, signed: bool) -> Change:
    def change(message: dns.message.Message) -> None:
        owner = message.question[0].name
        alias = dns.rrset.from_text(owner, 60, "IN", "CNAME", f"{target}.")
        records = _other_records(dns.name.from_text(target))
        message.answer = [*(_signed_by_the_forger(alias) if signed else [alias]), records]

    return change


def _round_alias(message: dns.message.Message) -> None:
    owner = message.question[0].name
    message.answer = [dns.rrset.from_text(owner, 60, "IN", "CNAME", str(owner))]


def _enormous(message: dns.message.Message) -> None:
    texts = [f"3 0 0 {number:04X}" for number in range(3000)]
    owner = message.question[0].name
    message.answer.append(dns.rrset.from_text(owner, 60, "IN", "TLSA", *texts))


def _many_signatures(message: dns.message.Message) -> None:
    signatures = next(rrset for rrset in message.answer if rrset.rdtype == RdataType.RRSIG)
    forged = [signatures[0].replace(signature=number.to_bytes(64)) for number in range(500)]
    message.answer = [rrset for rrset in message.answer if rrset.rdtype != RdataType.RRSIG]
    message.answer.append(dns.rrset.from_rdata(signatures.name, 60, *forged))


def _question_end(wire: bytes) -> int:
    return wire.index(b"\0", _HEADER_OCTETS) + 5


def _counted(wire: bytes) -> bytes:
    """Claim as many records as can be claimed."""
    return wire[:6] + b"\xff" * 6 + wire[_HEADER_OCTETS:]


def _pointing(wire: bytes, *octets: int) -> bytes:
    """Answer with a record whose owner consists of these bytes."""
    head = wire[:4] + b"\0\1\0\1\0\0\0\0" + wire[_HEADER_OCTETS : _question_end(wire)]
    return head + bytes(octets) + b"\0\x34\0\1\0\0\0\x3c\0\4\3\0\0\xab"


def _ladder(wire: bytes) -> bytes:
    """Answer with thousands of owners that are each thousands of compression pointers away."""
    start = _question_end(wire)
    rungs = b"\0" + b"".join((0xC000 | max(start + 12, start + 11 + 2 * n - 1)).to_bytes(2) for n in range(1, 8000))
    opaque = b"\xc0\x0c\0\x10\0\1\0\0\0\x3c" + len(rungs).to_bytes(2) + rungs
    top = (0xC000 | min(0x3FFE, start + len(opaque) - 2)).to_bytes(2)
    records = (top + b"\0\x34\0\1\0\0\0\x3c\0\4\3\0\0\xab") * 2000
    return wire[:4] + b"\0\1" + (2001).to_bytes(2) + b"\0\0\0\0" + wire[_HEADER_OCTETS:start] + opaque + records


def _answers_only_over_tcp(over_tcp: Lie, title: str, outcome: Outcome, *, dribbles: bool = False) -> Liar:
    return Liar(title, outcome, outcome, _truncated, over_tcp, dribbles=dribbles)


LIARS: Final = (
    Liar("the truth", _TRUE, _TRUE, _honestly),
    Liar("the truth about an alias", _TRUE, _TRUE, _honestly, asked=_ALIAS),
    Liar("another number", TEMPORARY, TEMPORARY, _sent(lambda wire: [_renumbered(wire)])),
    Liar("another name in the question", TEMPORARY, TEMPORARY, _changed(_with_question(_OTHER))),
    Liar("another type in the question", TEMPORARY, TEMPORARY, _changed(_with_question(ASKED, RdataType.A))),
    Liar("no question", TEMPORARY, TEMPORARY, _changed(lambda message: message.question.clear())),
    Liar("two questions", TEMPORARY, TEMPORARY, _changed(lambda message: message.question.extend(message.question))),
    Liar("another owner", TEMPORARY, TEMPORARY, _changed(lambda message: _rename(message, _OTHER))),
    Liar("records for another name besides", TEMPORARY, TEMPORARY, _changed(_records_for_another_name)),
    Liar("records of another class", NONE, TEMPORARY, _changed(_another_class)),
    Liar("another name's records and signatures", _OTHER_RECORD, BOGUS, _changed(_of_another_name), about=_OTHER),
    Liar("the AD bit withheld", NOT_SECURE, _TRUE, _changed(_do_not_vouch)),
    Liar("the AD bit over a forgery", _FORGED, BOGUS, _changed(_unsigned_forgery)),
    Liar("the old signature over a forgery", _FORGED, BOGUS, _changed(_forgery_under_the_old_signature)),
    Liar("signatures stripped", _TRUE, BOGUS, _changed(_strip)),
    Liar("signatures replayed", _TRUE, BOGUS, _changed(_vouch), asked=_EXPIRED),
    Liar("five hundred signatures", _TRUE, BOGUS, _changed(_many_signatures)),
    Liar("three thousand records", UNUSABLE, BOGUS, _truncated, _changed(_enormous)),
    Liar("another zone", _FORGED, BOGUS, _another_zone),
    Liar("another key beside the zone's", _FORGED, BOGUS, _another_key_beside),
    Liar("keys withheld", _TRUE, TEMPORARY, _changed(_deny(dns.rcode.NOERROR), RdataType.DNSKEY)),
    Liar("an invented cut", _FORGED, BOGUS, _invented_cut),
    Liar("an unsigned alias", _FORGED, BOGUS, _changed(_alias("enemy.unsigned.test", signed=False))),
    Liar("a forged alias", _FORGED, BOGUS, _changed(_alias("enemy.unsigned.test", signed=True))),
    Liar("an alias of itself", TEMPORARY, TEMPORARY, _changed(_round_alias)),
    Liar("NXDOMAIN", NONE, TEMPORARY, _changed(_deny(dns.rcode.NXDOMAIN))),
    Liar("NODATA", NONE, TEMPORARY, _changed(_deny(dns.rcode.NOERROR))),
    Liar(
        "records of a name that does not exist",
        TEMPORARY,
        TEMPORARY,
        _changed(lambda m: m.set_rcode(dns.rcode.NXDOMAIN)),
    ),
    Liar("SERVFAIL", TEMPORARY, TEMPORARY, _failing(dns.rcode.SERVFAIL)),
    Liar("SERVFAIL for the network's sake", TEMPORARY, TEMPORARY, _failing(dns.rcode.SERVFAIL, 22, 23)),
    Liar("SERVFAIL for DNSSEC's sake", BOGUS, BOGUS, _failing(dns.rcode.SERVFAIL, 6)),
    Liar("SERVFAIL unless checking is disabled", BOGUS, _TRUE, _failing(dns.rcode.SERVFAIL, unless_disabled=True)),
    Liar("REFUSED", TEMPORARY, TEMPORARY, _failing(dns.rcode.REFUSED)),
    Liar("always truncated", TEMPORARY, TEMPORARY, _truncated),
    Liar("garbage", TEMPORARY, TEMPORARY, _sent(lambda wire: [b"garbage"])),
    Liar("the number and garbage", TEMPORARY, TEMPORARY, _sent(lambda wire: [wire[:2] + b"\xff" * 60])),
    Liar("an empty datagram", TEMPORARY, TEMPORARY, _sent(lambda wire: [b""])),
    Liar("half a message", TEMPORARY, TEMPORARY, _sent(lambda wire: [wire[: len(wire) // 2]])),
    Liar("octets left over", TEMPORARY, TEMPORARY, _sent(lambda wire: [wire + b"\0"])),
    Liar("huge counts", TEMPORARY, TEMPORARY, _sent(lambda wire: [_counted(wire)])),
    Liar("a pointer to itself", TEMPORARY, TEMPORARY, _sent(lambda wire: [_pointing(wire, 0xC0, _question_end(wire))])),
    Liar("a pointer forward", TEMPORARY, TEMPORARY, _sent(lambda wire: [_pointing(wire, 0xFF, 0xFF)])),
    Liar("the query itself", TEMPORARY, TEMPORARY, lambda query, truth: [_wire(query)]),
    Liar("another operation", TEMPORARY, TEMPORARY, _changed(lambda m: m.set_opcode(dns.opcode.NOTIFY))),
    Liar("nothing", TEMPORARY, TEMPORARY, lambda query, truth: []),
    Liar("too late", TEMPORARY, TEMPORARY, _honestly, seconds=7),
    Liar("from another port", TEMPORARY, TEMPORARY, _honestly, answers_from=LOOPBACK),
    Liar("from another address", TEMPORARY, TEMPORARY, _honestly, answers_from=_ANOTHER_ADDRESS),
    Liar("twenty forgeries before the truth", _TRUE, _TRUE, _sent(lambda wire: [_renumbered(wire)] * 20 + [wire])),
    Liar("a thousand forgeries", TEMPORARY, TEMPORARY, _sent(lambda wire: [_renumbered(wire)] * 1000)),
    _answers_only_over_tcp(_honestly, "the truth over TCP", _TRUE),
    _answers_only_over_tcp(lambda query, truth: [], "nothing over TCP", TEMPORARY),
    _answers_only_over_tcp(_sent(lambda wire: [b"garbage"]), "garbage over TCP", TEMPORARY),
    _answers_only_over_tcp(_sent(lambda wire: [_renumbered(wire)]), "another number over TCP", TEMPORARY),
    _answers_only_over_tcp(_sent(lambda wire: [_ladder(wire)]), "ladders of pointers over TCP", TEMPORARY),
    _answers_only_over_tcp(_honestly, "an octet a second over TCP", TEMPORARY, dribbles=True),
)
