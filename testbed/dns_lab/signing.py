"""Zones that are signed by hand, so that each signature can be damaged separately."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import dns.dnssec
import dns.name
import dns.node
import dns.rdata
import dns.rdataset
import dns.rrset
import dns.transaction
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.RRSIG import RRSIG

_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_UNKNOWN_ALGORITHM: Final = 100

_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Key:
    """A zone's one key.

    Args:
        origin: The zone.
        private: The key.
        public: Its DNSKEY record, or one that pretends to be.
    """

    origin: dns.name.Name
    private: _PrivateKey
    public: DNSKEY

    @classmethod
    def generate(cls, zone: str, algorithm: int = 13) -> "Key":
        """Return a new key of algorithm 13 or 15."""
        private = ec.generate_private_key(ec.SECP256R1()) if algorithm == 13 else ed25519.Ed25519PrivateKey.generate()
        public = dns.dnssec.make_dnskey(private.public_key(), algorithm, flags=257)
        return cls(dns.name.from_text(zone), private, public)

    def of_unknown_algorithm(self) -> "Key":
        """Return the key with the number of an unknown algorithm."""
        return dataclasses.replace(self, public=self._replaced(algorithm=_UNKNOWN_ALGORITHM))

    def colliding(self, number: int) -> DNSKEY:
        """Return another DNSKEY record with the same key tag: the octets of this one in another order."""
        words = [self.public.key[position : position + 2] for position in range(0, len(self.public.key), 2)]
        return self._replaced(key=b"".join(words[number:] + words[:number]))

    @property
    def ds(self) -> str:
        """The DS record's data, SHA-256."""
        return dns.dnssec.make_ds(self.origin, self.public, "SHA256").to_text()

    @property
    def anchor(self) -> str:
        """The DS record as a zone-file line."""
        return f"{self.origin} IN DS {self.ds}"

    def sign(self, records: dns.rrset.RRset, since: int = -_DAY, until: int = _DAY) -> RRSIG:
        """Return a signature.

        Args:
            records: What it signs.
            since: The start of its validity, in seconds from now.
            until: The end of its validity, in seconds from now.
        """
        now = int(time.time())
        known = dataclasses.replace(self, public=self._replaced(algorithm=13)) if self._is_unknown else self
        signature = dns.dnssec.sign(
            records, known.private, self.origin, known.public, inception=now + since, expiration=now + until
        )
        changed = signature.replace(algorithm=self.public.algorithm, key_tag=dns.dnssec.key_id(self.public))
        assert isinstance(changed, RRSIG)
        return changed

    @property
    def _is_unknown(self) -> bool:
        return self.public.algorithm == _UNKNOWN_ALGORITHM

    def _replaced(self, **parts: object) -> DNSKEY:
        changed = self.public.replace(**parts)
        assert isinstance(changed, DNSKEY)
        return changed


Damage = Callable[[dns.rrset.RRset, Key], Iterable[RRSIG]]


def intact(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign correctly."""
    return [key.sign(records)]


def stripped(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Omit the signature."""
    return []


def expired(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign for a time in the past."""
    return [key.sign(records, -2 * _DAY, -_DAY)]


def not_yet_valid(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign for a time in the future."""
    return [key.sign(records, 2 * _DAY, 3 * _DAY)]


def flipped(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Change one bit of the signature."""
    signature = key.sign(records)
    return [_changed(signature, signature=signature.signature[:-1] + bytes((signature.signature[-1] ^ 1,)))]


def over_other_records(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign other records."""
    other = dns.rrset.from_text(records.name, records.ttl, RdataClass.IN, RdataType.TLSA, "3 0 0 AB")
    return [key.sign(other)]


def by_a_foreign_key(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign with a key that is not the zone's."""
    return [Key.generate(str(key.origin)).sign(records)]


def by_a_foreign_key_of_equal_tag(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign with a key that is not the zone's, with the tag of the zone's key."""
    signature = Key.generate(str(key.origin)).sign(records)
    return [_changed(signature, key_tag=dns.dnssec.key_id(key.public))]


def by_another_zone(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign in the name of a zone that does not contain the owner."""
    return [_changed(key.sign(records), signer=dns.name.from_text("good.test."))]


def of_unknown_algorithm(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign with an unknown algorithm, in a zone whose key's algorithm is known."""
    return [_changed(key.sign(records), algorithm=_UNKNOWN_ALGORITHM)]


def twice_first_broken(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign once correctly and once not."""
    return [*flipped(records, key), *intact(records, key)]


def twice_first_expired(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign again before the old signature's end, and leave that in place."""
    return [*expired(records, key), *intact(records, key)]


def many(records: dns.rrset.RRset, key: Key) -> list[RRSIG]:
    """Sign forty times, never correctly."""
    signature = key.sign(records)
    first, rest = signature.signature[0], signature.signature[1:]
    return [_changed(signature, signature=bytes((first ^ number,)) + rest) for number in range(1, 41)]


def signed_zone(
    text: str,
    key: Key,
    damages: Mapping[dns.name.Name, Damage],
    keys: Iterable[DNSKEY] = (),
    damage_of_keys: Damage = intact,
) -> str:
    """Return a zone with its signatures as a file's text.

    Args:
        text: The zone without them, with its SOA.
        key: What signs.
        damages: How the TLSA records of some names are signed.
        keys: DNSKEY records in addition to the key's own.
        damage_of_keys: How they are signed.
    """
    zone = dns.zone.from_text(text, key.origin, relativize=False)

    def sign(transaction: dns.transaction.Transaction, records: dns.rrset.RRset) -> None:
        damage = damages.get(records.name, intact) if records.rdtype == RdataType.TLSA else intact
        if records.rdtype == RdataType.DNSKEY:
            damage = damage_of_keys
        for signature in damage(records, key):
            transaction.add(records.name, records.ttl, signature)

    with zone.writer() as transaction:
        for public in (key.public, *keys):
            transaction.add(key.origin, 60, public)
    dns.dnssec.sign_zone(zone, keys=[(key.private, key.public)], add_dnskey=False, rrset_signer=sign, lifetime=_DAY)
    return zone.to_text(relativize=False)


def without(text: str, *record_types: str) -> str:
    """Return a zone's text without records of some types and their signatures."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if set(record_types).isdisjoint(line.split()[3:5]))


def _changed(signature: RRSIG, /, **parts: object) -> RRSIG:
    changed = signature.replace(**parts)
    assert isinstance(changed, RRSIG)
    return changed
