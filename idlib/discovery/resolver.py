"""Sends DNS queries: over UDP, or over TCP if the answer does not fit, within limits of time and size.

A query for a server with an encrypted path is sent over that path only.
"""

import dataclasses
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import dns.rcode

from idlib.discovery.channel import Channel, ChannelError
from idlib.discovery.messages import Answer, ExtendedError, Question, UnusableAnswerError, read_answer
from idlib.errors import BogusError, ConfigurationError, TemporaryDiscoveryError
from idlib.settings import DNS_PORT, ResolverAddress, ServerAddress, Settings, suspected_port

SYSTEM_RESOLVERS: Final = Path("/etc/resolv.conf")
_MAX_SYSTEM_RESOLVERS: Final = 3
_HINT_FOR_CLOSED_PORT: Final = (
    "in a network that blocks port 53, set DNS_RESOLVER to a resolver that answers over HTTPS (docs/networks.md)"
)
_TRUSTED_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_SECONDS_FOR_A_QUESTION: Final = 6.0
_SECONDS_BEFORE_REPEATING: Final = 1.5
_MAX_DISCARDED: Final = 100
_MAX_MESSAGE: Final = 65535
# RFC 8467, section 4.1: the size of an encrypted query must not tell the name in it.
PADDED_TO: Final = 128
_DNSSEC_EXTENDED_ERRORS: Final = frozenset({1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27})
_ANSWERS: Final = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Server:
    """A DNS server to ask.

    Args:
        address: Where it listens.
        trusted: Whether the path to it is trusted, so that its AD bit counts.
        channel: The encrypted path to it, the only one that is used then; None for UDP and TCP.
    """

    address: ResolverAddress
    trusted: bool
    channel: Channel | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with the code NOERROR or NXDOMAIN, and the server that sent it."""

    answer: Answer
    server: Server

    @property
    def name_exists(self) -> bool:
        """Whether the name exists according to the server."""
        return self.answer.rcode == dns.rcode.NOERROR


def servers_from(settings: Settings) -> Callable[[], Sequence[Server]]:
    """Return the servers to ask: the one in DNS_RESOLVER, or the system's resolvers.

    Args:
        settings: It uses DNS_RESOLVER and DNS_CA_FILE.

    Raises:
        ConfigurationError: They exclude each other, or the file cannot be used.
    """
    address = settings.dns_resolver
    if address is None or isinstance(address, ServerAddress):
        if settings.dns_ca_file is not None:
            raise ConfigurationError(
                "DNS_CA_FILE is set, and DNS_RESOLVER has neither tls:// nor https://: add one of them to use an"
                " encrypted path, or unset DNS_CA_FILE"
            )
        return system_servers if address is None else named_server(address)
    # Imported late: a path in clear text needs no TLS.
    from idlib.discovery.encrypted_channel import open_channel

    servers = (Server(address, trusted=True, channel=open_channel(address, settings.dns_ca_file)),)
    return lambda: servers


def named_server(address: ServerAddress) -> Callable[[], Sequence[Server]]:
    """Return the servers to ask if the operator names one: only that one, and it is trusted."""
    servers = (Server(address, trusted=True),)
    return lambda: servers


def system_servers(path: Path = SYSTEM_RESOLVERS) -> Sequence[Server]:
    """Return the system's resolvers; only 127.0.0.1 and ::1 are trusted.

    Other loopback addresses are forwarders that do not validate (Docker's 127.0.0.11, systemd's 127.0.0.53).
    If there are trusted ones, no others are asked, because their answers could not be trusted.

    Args:
        path: A file as in resolv.conf(5); without one, or without servers in it, 127.0.0.1 is asked, as there.
    """
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    addresses = [line[1] for line in words if len(line) >= 2 and line[0] == "nameserver" and _is_address(line[1])]
    addresses = addresses[:_MAX_SYSTEM_RESOLVERS] or ["127.0.0.1"]
    servers = [Server(ServerAddress(address), address in _TRUSTED_LOOPBACK) for address in addresses]
    return [server for server in servers if server.trusted] or servers


class Resolver:
    """Asks DNS servers.

    Args:
        servers: Returns the servers to ask, in order; called for each query, because a device may change its network.
        seconds: How long a look-up may take in total.
    """

    def __init__(
        self, servers: Callable[[], Sequence[Server]] = system_servers, seconds: float = _SECONDS_FOR_A_QUESTION
    ) -> None:
        self._servers = servers
        self._seconds = seconds

    def ask(self, question: Question) -> Reply:
        """Return the answer to a question.

        Raises:
            BogusError: A server reports that its validation failed, or answers only with validation disabled.
            TemporaryDiscoveryError: No server answers with NOERROR or NXDOMAIN.
        """
        servers = self._servers()
        failures: list[TemporaryDiscoveryError] = []
        for server in servers:
            try:
                return self._ask_server(server, question, self._seconds / len(servers))
            except TemporaryDiscoveryError as error:
                failures.append(error)
        raise failures[0]

    def _ask_server(self, server: Server, question: Question, seconds: float) -> Reply:
        deadline = time.monotonic() + seconds
        answer = _exchange(server, question, deadline)
        if answer.rcode == dns.rcode.SERVFAIL:
            raise self._why_it_failed(server, question, answer, deadline)
        if answer.rcode not in _ANSWERS:
            code = dns.rcode.to_text(dns.rcode.Rcode.make(answer.rcode))
            raise _temporary(server, question, f"answers {code}{_said(answer.extended_errors)}")
        return Reply(answer, server)

    def _why_it_failed(
        self, server: Server, question: Question, failure: Answer, deadline: float
    ) -> BogusError | TemporaryDiscoveryError:
        answers = [failure]
        if not _blames_dnssec(failure) and not question.checking_disabled:
            answers.append(_exchange(server, dataclasses.replace(question, checking_disabled=True), deadline))
        errors = [error for answer in answers for error in answer.extended_errors]
        if _blames_dnssec(answers[-1]) or answers[-1].rcode in _ANSWERS:
            return _bogus(server, question, errors)
        return _temporary(server, question, f"answers SERVFAIL{_said(errors)}")


def exchange(address: ServerAddress, question: Question, deadline: float) -> Answer:
    """Return one server's answer to a question, over TCP if it does not fit into UDP.

    Args:
        address: The server.
        question: What is asked.
        deadline: When to give up, as `time.monotonic` counts.

    Raises:
        UnusableAnswerError: What it sent is not an answer to the question.
        TimeoutError: It did not answer in time.
        OSError: It cannot be reached.
    """
    identifier = secrets.randbelow(2**16)
    query = question.to_wire(identifier)

    def read(wire: bytes) -> Answer:
        return read_answer(wire, question, identifier)

    if not question.over_tcp:
        answer = over_udp(address, query, read, deadline)
        if not answer.truncated:
            return answer
    return read(over_tcp(address, query, deadline))


def exchange_over(channel: Channel, question: Question, deadline: float) -> Answer:
    """Return a server's answer to a question over an encrypted path.

    Args:
        channel: The path.
        question: What is asked.
        deadline: When to give up, as `time.monotonic` counts.

    Raises:
        UnusableAnswerError: What it sent is not an answer to the question.
        ChannelError: There is no answer.
    """
    identifier = channel.new_identifier()
    return read_answer(channel.exchange(question.to_wire(identifier, PADDED_TO), deadline), question, identifier)


def _exchange(server: Server, question: Question, deadline: float) -> Answer:
    try:
        if server.channel is not None:
            answer = exchange_over(server.channel, question, deadline)
        elif isinstance(server.address, ServerAddress):
            answer = exchange(server.address, question, deadline)
        else:
            raise TypeError(server.address)  # nothing may be sent in clear text to this server
    except ChannelError as error:
        raise _temporary(server, question, error.fault, error.hint) from error
    except UnusableAnswerError as error:
        raise _temporary(server, question, f"gives no usable answer: {error}") from error
    except TimeoutError as error:
        raise _temporary(server, question, "did not answer in time", _hint_for_silence(server.address)) from error
    except OSError as error:
        raise _temporary(server, question, f"cannot be reached: {error.strerror or error}") from error
    if answer.truncated:
        raise _temporary(server, question, "truncates its answer even over TCP")
    return answer


def over_udp(address: ServerAddress, query: bytes, read: Callable[[bytes], Read], deadline: float) -> Read:
    """Send a query over UDP, repeatedly until its answer comes, and return what `read` makes of that.

    Args:
        address: The server.
        query: The query's bytes.
        read: Reads an answer's bytes; raises UnusableAnswerError if they are not the answer.
        deadline: When to give up, by the monotonic clock.

    Raises:
        UnusableAnswerError: Only bytes came that are not the answer.
        OSError: The server cannot be reached; TimeoutError if nothing came in time.
    """
    with socket.socket(_family(address), socket.SOCK_DGRAM) as connection:
        # Connected, so that the kernel drops packets from any other address and reports a port without a listener.
        connection.connect((address.address, address.port))
        unusable: UnusableAnswerError | None = None
        discarded = 0
        while discarded < _MAX_DISCARDED and (remaining := deadline - time.monotonic()) > 0:
            connection.send(query)
            repeat_at = time.monotonic() + min(_SECONDS_BEFORE_REPEATING, remaining)
            while discarded < _MAX_DISCARDED and (patience := repeat_at - time.monotonic()) > 0:
                connection.settimeout(patience)
                try:
                    return read(connection.recv(_MAX_MESSAGE))
                except UnusableAnswerError as error:
                    # It may be forged by an attacker who does not see the query; the real answer may still come.
                    unusable = error
                    discarded += 1
                except TimeoutError:
                    break
        raise unusable or TimeoutError


def over_tcp(address: ServerAddress, query: bytes, deadline: float) -> bytes:
    """Return the bytes that a server sends back over TCP for those of a query or an update.

    Args:
        address: The server.
        query: A whole DNS message.
        deadline: When to give up, as `time.monotonic` counts.

    Raises:
        UnusableAnswerError: It closed the connection.
        TimeoutError: It did not answer in time.
        OSError: It cannot be reached.
    """
    with socket.socket(_family(address), socket.SOCK_STREAM) as connection:
        connection.settimeout(_remaining(deadline))
        connection.connect((address.address, address.port))
        connection.sendall(len(query).to_bytes(2) + query)
        size = int.from_bytes(_receive(connection, 2, deadline))
        return _receive(connection, size, deadline)


def _receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        connection.settimeout(_remaining(deadline))
        part = connection.recv(size - len(data))
        if not part:
            raise UnusableAnswerError("it closed the connection before its answer was complete")
        data += part
    return data


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _family(address: ServerAddress) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.address else socket.AF_INET


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _blames_dnssec(answer: Answer) -> bool:
    return any(error.code in _DNSSEC_EXTENDED_ERRORS for error in answer.extended_errors)


def _said(errors: Sequence[ExtendedError]) -> str:
    return f" with {errors[0]}" if errors else ""


def _temporary(server: Server, question: Question, what: str, hint: str | None = None) -> TemporaryDiscoveryError:
    return TemporaryDiscoveryError(
        f"the DNS server {server.address} {what} (asked for {question})", hint or _usual_hint(server.address)
    )


def _hint_for_silence(address: ResolverAddress) -> str:
    hint = _usual_hint(address)
    is_usual = isinstance(address, ServerAddress) and address.port == DNS_PORT and not suspected_port(address.address)
    return f"{hint}; {_HINT_FOR_CLOSED_PORT}" if is_usual else hint


def _usual_hint(address: ResolverAddress) -> str:
    split = suspected_port(address.address) if isinstance(address, ServerAddress) else None
    form = f", which must be [{split[0]}]:{split[1]} if {split[1]} is the port" if split else ""
    return f"check the network and DNS_RESOLVER{form}, and try again"


def _bogus(server: Server, question: Question, errors: Sequence[ExtendedError]) -> BogusError:
    return BogusError(
        f"the DNS server {server.address} reports broken DNSSEC signatures over {question}{_said(errors)}",
        "the zone's owner must fix its signatures (see dnsviz.net), or answers are being altered in transit",
    )
