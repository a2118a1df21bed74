"""DNS messages (RFC 1035, section 4): builds a query, and parses its answer and matches it to the query.

The reader is our own, because dnspython refuses a whole answer for one short TLSA record, and because signatures
cover the bytes of the records as they were sent.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.wire
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from idlib.names import IdentityName

MAX_ALIASES: Final = 8
_UDP_PAYLOAD: Final = 1232  # fits any path without fragments (RFC 9715)
_EXTENDED_ERROR_OPTION: Final = 15
_SHOWN_EXTRA_TEXT: Final = 80
_TYPES_OF_ONE_NAME: Final = frozenset({RdataType.CNAME, RdataType.DNAME, RdataType.NS})
_MAX_TTL: Final = 2**31 - 1


class UnusableAnswerError(Exception):
    """The bytes are not an answer to our question; the text gives the reason and quotes nothing from the answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a DNS server.

    Args:
        name: The owner of the records.
        record_type: Their type, in class IN.
        checking_disabled: Whether a validating resolver is to answer even if its validation fails (CD bit).
        recursion_desired: Whether the server is to ask others (RD bit).
        over_tcp: Whether it is asked over TCP at once, because the answer is known not to fit into UDP.
    """

    name: dns.name.Name
    record_type: RdataType
    checking_disabled: bool = False
    recursion_desired: bool = True
    over_tcp: bool = False

    @classmethod
    def about(cls, name: IdentityName, *, checking_disabled: bool = False) -> "Question":
        """Return the question for a device's TLSA records."""
        return cls(dns.name.from_text(name.text), RdataType.TLSA, checking_disabled)

    def to_wire(self, identifier: int, block: int = 0) -> bytes:
        """Return the query's bytes: DNSSEC records desired, AD understood (RFC 6840, section 5.7).

        Args:
            identifier: 0 to 65535.
            block: The size is padded to a multiple of this (RFC 7830); 0 for no padding.
        """
        flags = dns.flags.AD | (dns.flags.CD if self.checking_disabled else 0)
        flags |= dns.flags.RD if self.recursion_desired else 0
        query = dns.message.make_query(
            self.name,
            self.record_type,
            use_edns=0,
            want_dnssec=True,
            payload=_UDP_PAYLOAD,
            flags=flags,
            id=identifier,
            pad=block,
        )
        return query.to_wire()

    def __str__(self) -> str:
        return f"{self.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(self.record_type)}"


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """One record of class IN in an answer.

    Args:
        owner: Its name.
        record_type: Its type.
        ttl: Seconds.
        rdata: Its data; for CNAME, DNAME and NS the uncompressed name.
    """

    owner: dns.name.Name
    record_type: int
    ttl: int
    rdata: bytes


@dataclass(frozen=True, slots=True)
class RecordSet:
    """All records of one name and type, without duplicates.

    Args:
        owner: Their name.
        record_type: Their type.
        ttl: The smallest TTL, in seconds.
        rdatas: Their data.
    """

    owner: dns.name.Name
    record_type: int
    ttl: int
    rdatas: tuple[bytes, ...]

    def __str__(self) -> str:
        return f"{dns.rdatatype.to_text(RdataType.make(self.record_type))} records of {shown(self.owner)}"


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """Why a server failed, in its own words (RFC 8914).

    Args:
        code: The INFO-CODE.
        text: The EXTRA-TEXT, made harmless.
    """

    code: int
    text: str

    def __str__(self) -> str:
        return f"extended error {self.code}" + (f" ({self.text})" if self.text else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to a question.

    Args:
        rcode: The response code, extended by EDNS.
        authenticated: The AD bit.
        truncated: The TC bit: the records are not all here.
        records: The answer section.
        authority: The authority section.
        extended_errors: The server's explanations of a failure.
        authoritative: The AA bit.
    """

    rcode: int
    authenticated: bool
    truncated: bool
    records: tuple[ResourceRecord, ...] = ()
    authority: tuple[ResourceRecord, ...] = ()
    extended_errors: tuple[ExtendedError, ...] = ()
    authoritative: bool = False

    def record_set(self, owner: dns.name.Name, record_type: int) -> RecordSet | None:
        """Return the answer's records of a name and type, or None if there are none."""
        return record_set(self.records, owner, record_type)


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain from a name through aliases to its records.

    Args:
        aliases: The CNAME records of the chain, one in each set.
        target: The name at the end of the chain.
        records: The records of the requested type there; None if there are none.
    """

    aliases: tuple[RecordSet, ...]
    target: dns.name.Name
    records: RecordSet | None


def record_set(records: Iterable[ResourceRecord], owner: dns.name.Name, record_type: int) -> RecordSet | None:
    """Return those of the records that have this name and type, or None if there are none."""
    found = [record for record in records if record.record_type == record_type and record.owner == owner]
    if not found:
        return None
    rdatas = tuple(dict.fromkeys(record.rdata for record in found))
    return RecordSet(owner, record_type, min(record.ttl for record in found), rdatas)


def read_answer(wire: bytes, question: Question, identifier: int) -> Answer:
    """Return the answer that the bytes contain.

    Args:
        wire: A whole DNS message, as received.
        question: What was asked; the message must repeat it.
        identifier: The ID of the query.

    Raises:
        UnusableAnswerError: They are not a DNS message, or not an answer to this question.
    """
    try:
        return _read_answer(wire, question, identifier)
    except (dns.exception.DNSException, struct.error, ValueError) as error:
        raise UnusableAnswerError("what it sent is not a DNS message") from error


def follow(answer: Answer, start: dns.name.Name, record_type: RdataType = RdataType.TLSA) -> Chain:
    """Return the chain from a name to its records of a type through the aliases in an answer.

    Raises:
        UnusableAnswerError: An alias is double, the chain is too long or loops, or the answer is about other names.
    """
    aliases: list[RecordSet] = []
    target = start
    passed = {start}
    while (records := answer.record_set(target, record_type)) is None:
        alias = answer.record_set(target, RdataType.CNAME)
        if alias is None:
            break
        if len(alias.rdatas) > 1 or len(aliases) == MAX_ALIASES:
            raise UnusableAnswerError(f"it answered with more than {MAX_ALIASES} aliases, or two for one name")
        aliases.append(alias)
        target = dns.name.from_wire(alias.rdatas[0], 0)[0]
        if target in passed:
            raise UnusableAnswerError("it answered with aliases that lead back to where they began")
        passed.add(target)
    addressed = (record_type, RdataType.CNAME)
    if any(record.owner not in passed for record in answer.records if record.record_type in addressed):
        raise UnusableAnswerError("it answered with records of another name")
    return Chain(tuple(aliases), target, records)


def shown(name: dns.name.Name) -> str:
    """Return a name for a person to read: ASCII, escaped, without the trailing dot."""
    return name.to_text(omit_final_dot=True)


def _read_answer(wire: bytes, question: Question, identifier: int) -> Answer:
    parser = dns.wire.Parser(wire)
    number, flags, *counts = parser.get_struct("!HHHHHH")
    if number != identifier:
        raise UnusableAnswerError("its answer has another query's ID")
    if not flags & dns.flags.QR or dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        raise UnusableAnswerError("what it sent is not an answer to a query")
    asked = [_read_question(parser) for _ in range(counts[0])]
    rcode = flags & 0xF
    repeats_question = asked == [(question.name, question.record_type, RdataClass.IN)]
    if not repeats_question and (asked or rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)):
        raise UnusableAnswerError("it answered another query")
    if flags & dns.flags.TC:
        return Answer(rcode, authenticated=False, truncated=True)
    records, authority, additional = [list(_read_section(parser, count)) for count in counts[1:]]
    if parser.remaining():
        raise UnusableAnswerError("its answer has bytes left over")
    extended_errors: list[ExtendedError] = []
    for _, record in additional:
        if record.record_type == RdataType.OPT and record.owner == dns.name.root:
            rcode |= (record.ttl >> 24) << 4
            extended_errors.extend(_read_extended_errors(record.rdata))
    return Answer(
        rcode,
        authenticated=bool(flags & dns.flags.AD),
        truncated=False,
        records=tuple(record for record_class, record in records if record_class == RdataClass.IN),
        authority=tuple(record for record_class, record in authority if record_class == RdataClass.IN),
        extended_errors=tuple(extended_errors),
        authoritative=bool(flags & dns.flags.AA),
    )


def _read_question(parser: dns.wire.Parser) -> tuple[dns.name.Name, int, int]:
    return (parser.get_name(decompress=True), *parser.get_struct("!HH"))


def _read_section(parser: dns.wire.Parser, count: int) -> Iterator[tuple[int, ResourceRecord]]:
    for _ in range(count):
        owner = parser.get_name(decompress=True)
        record_type, record_class, ttl, size = parser.get_struct("!HHIH")
        with parser.restrict_to(size):
            # Only these may have a compressed name (RFC 3597, section 4), and only these are parsed before validation.
            rdata = _read_name(parser) if record_type in _TYPES_OF_ONE_NAME else parser.get_remaining()
        if ttl > _MAX_TTL and record_type != RdataType.OPT:
            ttl = 0  # RFC 2181, section 8
        yield record_class, ResourceRecord(owner, record_type, ttl, rdata)


def _read_name(parser: dns.wire.Parser) -> bytes:
    return parser.get_name(decompress=True).canonicalize().to_wire() or b""


def _read_extended_errors(options: bytes) -> Iterator[ExtendedError]:
    parser = dns.wire.Parser(options)
    while parser.remaining():
        option = parser.get_uint16()
        value = parser.get_counted_bytes(2)
        if option == _EXTENDED_ERROR_OPTION and len(value) >= 2:
            text = value[2:].decode("ascii", "replace")[:_SHOWN_EXTRA_TEXT]
            yield ExtendedError(
                int.from_bytes(value[:2]), "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
            )
