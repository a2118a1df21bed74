"""The records that prove a zone cut: that a name is the start of another zone (RFC 4035 section 5.2, RFC 5155)."""

from collections.abc import Iterator
from typing import Final

import dns.dnssec
import dns.exception
import dns.name
import dns.rdata
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.NSEC import NSEC
from dns.rdtypes.ANY.NSEC3 import NSEC3

from idlib.discovery.messages import Answer, RecordSet, record_set

_MAX_DENIALS: Final = 3
_MAX_ITERATIONS: Final = 150
_SHA1: Final = 1
_NS_BIT, _SOA_BIT = 0x20, 0x02


def shows_cut(name: dns.name.Name, zone: dns.name.Name, answer: Answer) -> Iterator[RecordSet]:
    """Yield the sets of records that show a zone cut; the caller must validate their signatures by the zone.

    Args:
        name: Where the other zone would start.
        zone: The zone above it.
        answer: The answer to a query for the name's DS records.
    """
    delegation = answer.record_set(name, RdataType.DS)
    if delegation is not None:
        yield delegation
    denial = record_set(answer.authority, name, RdataType.NSEC)
    if denial is not None and _delegates(denial, NSEC):
        yield denial
    owners = {record.owner for record in answer.authority if record.record_type == RdataType.NSEC3}
    for owner in sorted(owners)[:_MAX_DENIALS]:
        denial = record_set(answer.authority, owner, RdataType.NSEC3)
        if denial is not None and _delegates(denial, NSEC3) and owner == _hashed(name, zone, denial):
            yield denial


def _delegates(denial: RecordSet, kind: type[NSEC | NSEC3]) -> bool:
    """Return whether an NSEC or NSEC3 record shows that its name is a delegation: has NS, but no SOA record here."""
    record = _read(denial)
    if not isinstance(record, kind):
        return False
    bits = next((bitmap[0] for window, bitmap in record.windows if window == 0), 0)
    return bool(bits & _NS_BIT and not bits & _SOA_BIT)


def _hashed(name: dns.name.Name, zone: dns.name.Name, denial: RecordSet) -> dns.name.Name | None:
    """Return the owner of a name's NSEC3 record (RFC 5155, section 5), or None if it takes too long to compute."""
    record = _read(denial)
    if not isinstance(record, NSEC3) or record.algorithm != _SHA1 or record.iterations > _MAX_ITERATIONS:
        return None
    label = dns.dnssec.nsec3_hash(name, record.salt, record.iterations, record.algorithm)
    return dns.name.Name((label.lower().encode(), *zone.labels))


def _read(denial: RecordSet) -> dns.rdata.Rdata | None:
    rdata = denial.rdatas[0]
    try:
        return dns.rdata.from_wire(RdataClass.IN, RdataType.make(denial.record_type), rdata, 0, len(rdata))
    except dns.exception.DNSException:
        return None
