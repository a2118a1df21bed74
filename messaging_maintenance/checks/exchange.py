"""One query to one server and its answer, with what `idlib.discovery` does not need: its flags and its size."""

import errno
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType

from idlib.discovery.channel import Channel, ChannelError
from idlib.discovery.messages import Answer, Question, UnusableAnswerError, read_answer
from idlib.discovery.resolver import PADDED_TO, over_tcp, over_udp
from idlib.errors import TemporaryDiscoveryError
from idlib.settings import ServerAddress

SECONDS: Final = 3.0
_FLAGS_END: Final = 4
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_PROBE: Final = dns.message.make_query(dns.name.root, RdataType.SOA, flags=0, id=secrets.randbelow(2**16))


class NoRouteError(TemporaryDiscoveryError):
    """The device cannot send to an address at all, as to one of IPv6 in a network without it."""


@dataclass(frozen=True, slots=True)
class Response:
    """A server's answer.

    Args:
        answer: What it says.
        is_authoritative: The AA bit.
        offers_recursion: The RA bit.
        size: Its bytes.
        edns_payload: The largest UDP packet that the server takes (RFC 6891); None if it does not use EDNS.
    """

    answer: Answer
    is_authoritative: bool
    offers_recursion: bool
    size: int
    edns_payload: int | None

    @property
    def code(self) -> str:
        """The name of the response code."""
        return dns.rcode.to_text(dns.rcode.Rcode.make(self.answer.rcode))


def ask_over_udp(server: ServerAddress, question: Question, seconds: float = SECONDS) -> Response:
    """Return a server's answer over UDP; it may be truncated, and may have any response code.

    Args:
        server: The server.
        question: What is asked.
        seconds: How long it may take.

    Raises:
        TemporaryDiscoveryError: There is no usable answer; the fact says only why.
    """
    identifier = secrets.randbelow(2**16)
    query = question.to_wire(identifier)
    deadline = time.monotonic() + seconds
    return _explained(lambda: over_udp(server, query, _reader(question, identifier), deadline))


def ask_over_tcp(server: ServerAddress, question: Question, seconds: float = SECONDS) -> Response:
    """Return a server's answer over TCP, with any response code.

    Args:
        server: The server.
        question: What is asked.
        seconds: How long it may take.

    Raises:
        TemporaryDiscoveryError: There is no usable answer; the fact says only why.
    """
    identifier = secrets.randbelow(2**16)
    query = question.to_wire(identifier)
    deadline = time.monotonic() + seconds
    return _explained(lambda: _reader(question, identifier)(over_tcp(server, query, deadline)))


def ask_over_channel(channel: Channel, question: Question, seconds: float = SECONDS) -> Response:
    """Return a server's answer over its encrypted path, with any response code.

    Args:
        channel: The path.
        question: What is asked.
        seconds: How long it may take.

    Raises:
        TemporaryDiscoveryError: There is no usable answer; the fact says only why, and the hint what to do.
    """
    identifier = channel.new_identifier()
    query = question.to_wire(identifier, PADDED_TO)
    deadline = time.monotonic() + seconds
    return _explained(lambda: _reader(question, identifier)(channel.exchange(query, deadline)))


def why_silent_over_channel(channel: Channel, seconds: float = SECONDS) -> str:
    """Return why a server does not answer over its encrypted path, as `why_silent` does over UDP.

    Args:
        channel: The path.
        seconds: How long it may take.
    """
    question = Question(dns.name.root, RdataType.SOA, recursion_desired=False)
    return _fault_of(lambda: ask_over_channel(channel, question, seconds))


def why_silent(server: ServerAddress, seconds: float = SECONDS) -> str:
    """Return why a server does not answer over UDP; empty if it answers anything.

    The query is not recursive, so that no other server has a part in the answer.

    Args:
        server: The server.
        seconds: How long it may take.
    """
    deadline = time.monotonic() + seconds
    return _fault_of(lambda: over_udp(server, _PROBE.to_wire(), _read_probe, deadline))


def why_silent_over_tcp(server: ServerAddress, seconds: float = SECONDS) -> str:
    """Return why a server does not answer over TCP, as `why_silent` does over UDP.

    Args:
        server: The server.
        seconds: How long it may take.
    """
    deadline = time.monotonic() + seconds
    return _fault_of(lambda: _read_probe(over_tcp(server, _PROBE.to_wire(), deadline)))


def _read_probe(wire: bytes) -> Response:
    return _reader(Question(dns.name.root, RdataType.SOA), _PROBE.id)(wire)


def _fault_of(exchange: Callable[[], Response]) -> str:
    try:
        _explained(exchange)
    except TemporaryDiscoveryError as error:
        return error.fact
    return ""


def _reader(question: Question, identifier: int) -> Callable[[bytes], Response]:
    def read(wire: bytes) -> Response:
        answer = read_answer(wire, question, identifier)
        flags = int.from_bytes(wire[2:_FLAGS_END])
        return Response(
            answer,
            is_authoritative=bool(flags & dns.flags.AA),
            offers_recursion=bool(flags & dns.flags.RA),
            size=len(wire),
            edns_payload=_edns_payload(wire),
        )

    return read


def _edns_payload(wire: bytes) -> int | None:
    try:
        # Records that dnspython cannot read are skipped.
        message = dns.message.from_wire(wire, continue_on_error=True, ignore_trailing=True)
    except dns.exception.DNSException:
        return None
    return message.payload if message.edns >= 0 else None


def _explained(exchange: Callable[[], Response]) -> Response:
    try:
        return exchange()
    except UnusableAnswerError as error:
        raise TemporaryDiscoveryError(f"gives no usable answer: {error}") from error
    except ChannelError as error:
        raise TemporaryDiscoveryError(error.fault, error.hint) from error
    except TimeoutError as error:
        raise TemporaryDiscoveryError("does not answer in time") from error
    except OSError as error:
        kind = NoRouteError if error.errno in _NO_ROUTE else TemporaryDiscoveryError
        raise kind(f"cannot be reached: {error.strerror or error}") from error
