"""Reads records from the zone's name servers, past every cache."""

import errno
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import dns.name
import dns.rcode
import dns.serial
from dns.rdatatype import RdataType

from idlib.discovery.messages import Question, RecordSet, UnusableAnswerError
from idlib.discovery.resolver import exchange
from idlib.errors import NotServedError, PublishingError
from idlib.publishing.change import PublishedSet
from idlib.publishing.record_types import Place
from idlib.publishing.zone import NameServer, Zone
from idlib.settings import ServerAddress

_SECONDS: Final = 5.0
_MAX_AT_ONCE: Final = 8
_PAUSE_SECONDS: Final = 1.0
_NUMBERS_BYTES: Final = 20
# What the system says before anything is sent, if it has no IPv6 (or no IPv4).
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True)
class Served:
    """What one name server answers about a place.

    Args:
        server: The name server.
        records: The records there; None if there is no usable answer.
        serial: The zone's serial number; None if the server does not give one.
        fault: Why there is no usable answer; empty if there is one.
        has_route: Whether this device can send to the server's address at all.
    """

    server: NameServer
    records: PublishedSet | None
    serial: int | None
    fault: str = ""
    has_route: bool = True


class _NoRouteError(NotServedError):
    """The device cannot send to an address of this kind."""


def read_from(address: ServerAddress, place: Place) -> PublishedSet:
    """Return the records at a place, as one name server has them.

    Args:
        address: The server.
        place: Where the records are.

    Raises:
        NotServedError: It gives no authoritative answer; the fact names only the reason.
    """
    records = _ask(address, dns.name.from_text(place.owner.text), place.type.rdatatype)
    return PublishedSet.of(records.ttl, records.rdatas) if records else PublishedSet.of(0, ())


def read_from_all(zone: Zone, place: Place) -> tuple[Served, ...]:
    """Return what each name server of a zone answers about a place, in the order of `Zone.servers`.

    Args:
        zone: The zone of the place.
        place: Where the records are.
    """
    with ThreadPoolExecutor(min(_MAX_AT_ONCE, len(zone.servers))) as pool:
        return tuple(pool.map(lambda server: _read(server, zone, place), zone.servers))


def read_most_authoritative(zone: Zone, place: Place) -> PublishedSet:
    """Return the records at a place, as the zone's primary server has them, or else the first server that answers.

    Args:
        zone: The zone of the place.
        place: Where the records are.

    Raises:
        PublishingError: No server answers.
    """
    served = sorted(read_from_all(zone, place), key=lambda answer: answer.server.host != zone.primary)
    for answer in served:
        if answer.records is not None:
            return answer.records
    raise PublishingError(f"no name server of {zone.name} answers", "check the network, and the zone's NS records")


def wait_until_served(
    zone: Zone, place: Place, expected: PublishedSet, seconds: float, report: Callable[[str], None] = lambda _: None
) -> tuple[Served, ...]:
    """Wait until every name server of a zone serves exactly these records.

    Addresses to which this device has no route are left out if others can be asked: most devices have no IPv6.

    Args:
        zone: The zone of the place.
        place: Where the records are.
        expected: The records; their TTL, and how a text is cut into character-strings, are not compared, because a
            provider may change both.
        seconds: How long to wait.
        report: Called with a sentence when waiting begins.

    Returns:
        What each server answers.

    Raises:
        NotServedError: A server does not serve them in time; the fact names each such server, and what it serves.
    """

    def contents(records: PublishedSet) -> list[bytes]:
        return sorted(map(place.type.content, records.rdatas))

    wanted = contents(expected)
    deadline = time.monotonic() + seconds
    while True:
        served = read_from_all(zone, place)
        asked = [answer for answer in served if answer.has_route] or served
        late = [answer for answer in asked if answer.records is None or contents(answer.records) != wanted]
        if not late:
            return served
        if time.monotonic() >= deadline:
            raise _not_served(late, served, seconds)
        report(f"Waiting for {', '.join(str(answer.server) for answer in late)}.")
        report = lambda _: None  # noqa: E731  # once is enough
        time.sleep(_PAUSE_SECONDS)


def _read(server: NameServer, zone: Zone, place: Place) -> Served:
    try:
        records = read_from(server.address, place)
    except _NoRouteError as error:
        return Served(server, None, None, error.fact, has_route=False)
    except NotServedError as error:
        return Served(server, None, None, error.fact)
    try:
        start = _ask(server.address, dns.name.from_text(zone.name), RdataType.SOA)
    except NotServedError:
        start = None
    return Served(server, records, _serial_of(start.rdatas[0]) if start else None)


def _serial_of(start_of_authority: bytes) -> int | None:
    # Two names, which may be compressed, and five numbers, of which it is the first (RFC 1035, section 3.3.13).
    numbers = start_of_authority[-_NUMBERS_BYTES:]
    return int.from_bytes(numbers[:4]) if len(numbers) == _NUMBERS_BYTES else None


def _ask(address: ServerAddress, owner: dns.name.Name, record_type: RdataType) -> RecordSet | None:
    """Return a server's records of one type.

    The reader is that of `discovery`, because dnspython refuses a whole answer for one malformed record.
    """
    question = Question(owner, record_type, recursion_desired=False)
    try:
        answer = exchange(address, question, time.monotonic() + _SECONDS)
    except UnusableAnswerError as error:
        raise NotServedError(f"its answer cannot be used: {error}") from error
    except TimeoutError as error:
        raise NotServedError("it does not answer") from error
    except OSError as error:
        kind = _NoRouteError if error.errno in _NO_ROUTE else NotServedError
        raise kind(f"it cannot be reached: {error.strerror or error}") from error
    if answer.rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise NotServedError(f"it answers {dns.rcode.to_text(dns.rcode.Rcode.make(answer.rcode))}")
    if answer.truncated:
        raise NotServedError("it truncates its answer even over TCP")
    if not answer.authoritative:
        raise NotServedError("it does not serve the zone")
    return answer.record_set(owner, record_type)


def _not_served(late: Sequence[Served], served: Sequence[Served], seconds: float) -> NotServedError:
    serials = {answer.serial for answer in served if answer.serial is not None}
    # Circular numbers (RFC 1982).
    newest = max(map(dns.serial.Serial, serials)).value if serials else None
    parts = []
    for answer in late:
        what = answer.fault or "it serves other records"
        if answer.serial is not None and newest is not None and answer.serial != newest:
            what += f" (serial {answer.serial}; the newest is {newest})"
        parts.append(f"{answer.server}: {what}")
    if any(answer.records is None for answer in late):
        hint = "make these servers reachable, or remove them from the zone's NS records"
    elif len(serials) > 1:
        hint = "its zone transfers are late or fail; run the command again later, or look at that server"
    else:
        hint = "the zone's serial number did not change, so other servers do not fetch it; look at the primary server"
    return NotServedError(f"not every name server serves the records after {seconds:g} s: {'; '.join(parts)}", hint)
