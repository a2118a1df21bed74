"""Reads a name's TLSA records from the zone's name servers, past every cache."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from idlib.errors import NotServedError
from idlib.names import IdentityName
from idlib.publishing.change import TlsaSet
from idlib.publishing.zone import NameServer, Zone
from idlib.settings import ServerAddress

_SECONDS: Final = 5.0
_MAX_AT_ONCE: Final = 8
_PAUSE_SECONDS: Final = 1.0
_UDP_PAYLOAD: Final = 1232


@dataclass(frozen=True, slots=True)
class Served:
    """What one name server answers about a name.

    Args:
        server: The name server.
        records: The TLSA records; None if there is no usable answer.
        serial: The zone's serial number; None if the server does not give one.
        fault: Why there is no usable answer; empty if there is one.
    """

    server: NameServer
    records: TlsaSet | None
    serial: int | None
    fault: str = ""


def read_from(address: ServerAddress, name: IdentityName) -> TlsaSet:
    """Return a name's TLSA records, as one name server has them.

    Args:
        address: The server.
        name: The owner of the records.

    Raises:
        NotServedError: It gives no authoritative answer; the fact names only the reason.
    """
    answer = _ask(address, name.text, dns.rdatatype.TLSA)
    owner = dns.name.from_text(name.text)
    records = answer.get_rrset(dns.message.ANSWER, owner, dns.rdataclass.IN, dns.rdatatype.TLSA)
    if records is None:
        return TlsaSet.of(0, ())
    return TlsaSet.of(records.ttl, (record.to_wire() or b"" for record in records))


def read_from_all(zone: Zone, name: IdentityName) -> tuple[Served, ...]:
    """Return what each name server of a zone answers about a name, in the order of `Zone.servers`.

    Args:
        zone: The zone of the name.
        name: The owner of the records.
    """
    with ThreadPoolExecutor(min(_MAX_AT_ONCE, len(zone.servers))) as pool:
        return tuple(pool.map(lambda server: _read(server, zone, name), zone.servers))


def wait_until_served(
    zone: Zone, name: IdentityName, expected: TlsaSet, seconds: float, report: Callable[[str], None] = lambda _: None
) -> tuple[Served, ...]:
    """Wait until every name server of a zone serves exactly these records.

    Args:
        zone: The zone of the name.
        name: The owner of the records.
        expected: The records; their TTL is not compared, because a provider may change it.
        seconds: How long to wait.
        report: Called with a sentence when waiting begins.

    Returns:
        What each server answers.

    Raises:
        NotServedError: A server does not serve them in time; the fact names each such server, and what it serves.
    """
    deadline = time.monotonic() + seconds
    while True:
        served = read_from_all(zone, name)
        late = [answer for answer in served if answer.records is None or answer.records.rdatas != expected.rdatas]
        if not late:
            return served
        if time.monotonic() >= deadline:
            raise _not_served(late, served, seconds)
        report(f"Waiting for {', '.join(str(answer.server) for answer in late)}.")
        report = lambda _: None  # noqa: E731  # once is enough
        time.sleep(_PAUSE_SECONDS)


def _read(server: NameServer, zone: Zone, name: IdentityName) -> Served:
    try:
        records = read_from(server.address, name)
    except NotServedError as error:
        return Served(server, None, None, error.fact)
    try:
        answer = _ask(server.address, zone.name, dns.rdatatype.SOA)
    except NotServedError:
        return Served(server, records, None)
    start = answer.get_rrset(dns.message.ANSWER, dns.name.from_text(zone.name), dns.rdataclass.IN, dns.rdatatype.SOA)
    return Served(server, records, start[0].serial if start else None)


def _ask(address: ServerAddress, name: str, record_type: dns.rdatatype.RdataType) -> dns.message.Message:
    query = dns.message.make_query(name, record_type, use_edns=0, payload=_UDP_PAYLOAD, flags=0)
    try:
        answer, _ = dns.query.udp_with_fallback(query, address.address, _SECONDS, address.port, ignore_errors=True)
    except dns.exception.Timeout as error:
        raise NotServedError("it does not answer") from error
    except OSError as error:
        raise NotServedError(f"it cannot be reached: {error.strerror or error}") from error
    except (dns.exception.DNSException, EOFError) as error:
        raise NotServedError("its answer cannot be read") from error
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise NotServedError(f"it answers {dns.rcode.to_text(answer.rcode())}")
    if not answer.flags & dns.flags.AA:
        raise NotServedError("it does not serve the zone")
    return answer


def _not_served(late: Sequence[Served], served: Sequence[Served], seconds: float) -> NotServedError:
    serials = [answer.serial for answer in served if answer.serial is not None]
    newest = max(serials, default=None)
    parts = []
    for answer in late:
        what = answer.fault or "it serves other records"
        if answer.serial is not None and newest is not None and answer.serial != newest:
            what += f" (serial {answer.serial}; the newest is {newest})"
        parts.append(f"{answer.server}: {what}")
    if any(answer.records is None for answer in late):
        hint = "make these servers reachable, or remove them from the zone's NS records"
    elif len(set(serials)) > 1:
        hint = "its zone transfers are late or fail; run the command again later, or look at that server"
    else:
        hint = "the zone's serial number did not change, so other servers do not fetch it; look at the primary server"
    return NotServedError(f"not every name server serves the records after {seconds:g} s: {'; '.join(parts)}", hint)
