"""A DNS zone signed with DNSSEC: takes records, and provides signed snapshots and the zone's trust anchors."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

import dns.dnssec
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.rrset
import dns.zone
import dns.zonefile
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm, DSDigest
from dns.rdtypes.dnskeybase import Flag

_ALGORITHM: Final = Algorithm.ECDSAP256SHA256
_CLOCK_TOLERANCE: Final = timedelta(hours=1)
_SIGNATURE_LIFETIME: Final = timedelta(days=7)
_TTL: Final = 300
_START_OF_AUTHORITY: Final = "ns.{0} hostmaster.{0} {1} 3600 600 604800 60"
_NAME_SERVER: Final = """
{0} NS ns.{0}
ns.{0} A 127.0.0.1
"""

_Key = tuple[ec.EllipticCurvePrivateKey, dns.rdtypes.ANY.DNSKEY.DNSKEY]


class SignedZone:
    """A zone with a key-signing and a zone-signing key of algorithm 13 (RFC 6605), and NSEC (RFC 4034).

    Every change signs the whole zone again, with the next serial number. It can be used by several threads.

    Args:
        origin: The zone's name.
    """

    def __init__(self, origin: str) -> None:
        self._origin = dns.name.from_text(origin)
        self._key_signing_key = _new_key(Flag.ZONE | Flag.SEP)
        self._keys = [self._key_signing_key, _new_key(Flag.ZONE)]
        self._lock = threading.Lock()
        self._serial = 0
        self._sets = {(rrset.name, rrset.rdtype): rrset for rrset in self._read(_NAME_SERVER.format(self._origin))}
        self._snapshot = self._sign()

    @property
    def snapshot(self) -> dns.zone.Zone:
        """The signed zone as it is now, with absolute names; later changes do not affect it."""
        return self._snapshot

    @property
    def trust_anchors(self) -> str:
        """The DS record of the key-signing key in zone-file form, for DNSSEC_TRUST_ANCHORS."""
        digest = dns.dnssec.make_ds(self._origin, self._key_signing_key[1], DSDigest.SHA256)
        return f"{self._origin} {_TTL} IN DS {digest}\n"

    @property
    def key_records(self) -> str:
        """The DNSKEY record of the key-signing key in zone-file form."""
        return f"{self._origin} {_TTL} IN DNSKEY {self._key_signing_key[1]}\n"

    def publish(self, records: str) -> None:
        """Add records to the zone; they replace all records of the same names and types.

        Args:
            records: Lines of a zone file with absolute names: `alice._device.example.test. IN TLSA 3 0 0 3082…`.

        Raises:
            dns.exception.DNSException: A line cannot be read.
            ValueError: A name is outside the zone.
        """
        with self._lock:
            self._sets |= {(rrset.name, rrset.rdtype): rrset for rrset in self._read(records)}
            self._snapshot = self._sign()

    def withdraw(self, name: str, rdtype: str) -> None:
        """Remove a set of records from the zone.

        Args:
            name: The owner's absolute name.
            rdtype: For example `TLSA`.

        Raises:
            KeyError: There is no such set.
        """
        with self._lock:
            del self._sets[dns.name.from_text(name), dns.rdatatype.from_text(rdtype)]
            self._snapshot = self._sign()

    def _read(self, records: str) -> list[dns.rrset.RRset]:
        rrsets = dns.zonefile.read_rrsets(records, rdclass=None, default_ttl=_TTL)
        for rrset in rrsets:
            if not rrset.name.is_subdomain(self._origin):
                raise ValueError(f"{rrset.name} is outside the zone {self._origin}")
        return rrsets

    def _sign(self) -> dns.zone.Zone:
        self._serial += 1
        start_of_authority = _START_OF_AUTHORITY.format(self._origin, self._serial)
        zone = dns.zone.Zone(self._origin, dns.rdataclass.IN, relativize=False)
        now = datetime.now(UTC)
        with zone.writer() as transaction:
            transaction.add(dns.rrset.from_text(self._origin, _TTL, "IN", "SOA", start_of_authority))
            for rrset in self._sets.values():
                transaction.add(rrset)
            dns.dnssec.sign_zone(
                zone,
                transaction,
                keys=list(self._keys),
                inception=now - _CLOCK_TOLERANCE,
                expiration=now + _SIGNATURE_LIFETIME,
            )
        return zone


def _new_key(flags: int) -> _Key:
    private_key = ec.generate_private_key(ec.SECP256R1())
    return private_key, dns.dnssec.make_dnskey(private_key.public_key(), _ALGORITHM, flags)
