"""Parses RRSIG records (RFC 4034, section 3), and does not verify them: `checking` does."""

import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.name
import dns.wire
from dns.rdatatype import RdataType

from idlib.discovery.messages import RecordSet, ResourceRecord

_FIXED: Final = struct.Struct("!HBBIIIH")


@dataclass(frozen=True, slots=True)
class Signature:
    """An RRSIG record (RFC 4034, section 3.1).

    Args:
        type_covered: The type of the records that it signs.
        algorithm: Its algorithm.
        labels: How many labels their owner has in the zone.
        original_ttl: Their TTL in the zone, in seconds.
        expiration: When it expires, in seconds since the epoch.
        inception: When it becomes valid, in seconds since the epoch.
        key_tag: The tag of the key that made it.
        signer: The zone that signed.
        value: The signature itself.
        signed_part: The signed part of this record: everything but the value.
    """

    type_covered: int
    algorithm: int
    labels: int
    original_ttl: int
    expiration: int
    inception: int
    key_tag: int
    signer: dns.name.Name
    value: bytes
    signed_part: bytes

    @classmethod
    def from_rdata(cls, rdata: bytes) -> "Signature":
        """Return the signature in a record's data.

        Raises:
            ValueError: The data is not an RRSIG.
        """
        parser = dns.wire.Parser(rdata)
        try:
            fixed = parser.get_bytes(_FIXED.size)
            signer = parser.get_name()
        except dns.exception.DNSException as error:
            raise ValueError("no RRSIG") from error
        signed_part = fixed + (signer.canonicalize().to_wire() or b"")
        covered, algorithm, labels, ttl, expiration, inception, tag = _FIXED.unpack(fixed)
        value = parser.get_remaining()
        return cls(covered, algorithm, labels, ttl, expiration, inception, tag, signer, value, signed_part)


def signatures_over(covered: RecordSet, records: Iterable[ResourceRecord]) -> list[Signature]:
    """Return the signatures over a set of records, from among the records of an answer."""
    beside = (record for record in records if record.owner == covered.owner)
    return [signature for signature in _signatures(beside) if signature.type_covered == covered.record_type]


def signing_zone(
    name: dns.name.Name, records: Iterable[ResourceRecord], types: Collection[int]
) -> dns.name.Name | None:
    """Return the zone that signed records of these types if it can be the name's zone, else None.

    If several zones claim it, it is the one nearest to the root: a resolver passes on signatures that it did not need,
    and a claim of a smaller zone must not gain its author a quota of its own.

    Args:
        name: Whose zone it is to be: the zone is the name or above it, and not the root.
        records: An answer's, validated.
        types: Of the records that a signature must cover.
    """
    signers = {signature.signer for signature in _signatures(records) if signature.type_covered in types}
    candidates = (signer for signer in signers if signer != dns.name.root and name.is_subdomain(signer))
    return min(candidates, key=len, default=None)


def _signatures(records: Iterable[ResourceRecord]) -> Iterator[Signature]:
    for record in records:
        if record.record_type == RdataType.RRSIG:
            with suppress(ValueError):
                yield Signature.from_rdata(record.rdata)
