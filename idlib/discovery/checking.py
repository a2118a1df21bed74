"""Verifies the signatures over one set of records with keys that are already authenticated (RFC 4035, section 5.3).

`validation` decides which zone and keys; `signatures` parses the RRSIG records.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import dns.dnssecalgs
import dns.exception
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from dns.rdataclass import RdataClass
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.dnskeybase import Flag

from idlib.discovery.messages import RecordSet
from idlib.discovery.signatures import Signature
from idlib.errors import BogusError

_ALGORITHMS: Final = frozenset({8, 13, 14, 15})  # RSASHA256, ECDSAP256SHA256, ECDSAP384SHA384, ED25519
_DNSSEC_PROTOCOL: Final = 3
_MAX_CHECKS: Final = 16
_HINT: Final = "the zone's owner must fix its signatures, or answers are being altered in transit"

KeysByTag = Mapping[tuple[int, int], tuple[DNSKEY, ...]]


class Budget:
    """Limits how many signatures are verified, so that a zone with colliding key tags costs little (CVE-2023-50387)."""

    def __init__(self, checks: int = _MAX_CHECKS) -> None:
        self._checks = checks

    def spend(self) -> None:
        """Count one verification.

        Raises:
            BogusError: There have been too many.
        """
        if self._checks == 0:
            raise BogusError("the answer needs too many signature checks", _HINT)
        self._checks -= 1


def supports(algorithm: int) -> bool:
    """Return whether signatures of an algorithm can be verified."""
    return algorithm in _ALGORITHMS


def may_sign(key: DNSKEY) -> bool:
    """Return whether a key may sign its zone's records (RFC 4034 section 2.1, RFC 5011 section 2.1)."""
    return bool(
        key.flags & Flag.ZONE
        and not key.flags & Flag.REVOKE
        and key.protocol == _DNSSEC_PROTOCOL
        and supports(key.algorithm)
    )


def by_tag(keys: Iterable[DNSKEY]) -> KeysByTag:
    """Return the keys that may sign, by algorithm and key tag."""
    tagged: defaultdict[tuple[int, int], list[DNSKEY]] = defaultdict(list)
    for key in keys:
        if may_sign(key):
            tagged[key.algorithm, key.key_id()].append(key)
    return {tag: tuple(same) for tag, same in tagged.items()}


def validate(covered: RecordSet, signatures: Iterable[Signature], keys: KeysByTag, now: float, budget: Budget) -> float:
    """Return how many seconds a set of records may be used, after at least one of the signatures verifies.

    Args:
        covered: The records.
        signatures: Their signatures, made by their zone.
        keys: The zone's keys, already authenticated.
        now: Seconds since the epoch.
        budget: How many verifications are left.

    Raises:
        BogusError: No signature verifies; the fact gives the reason for the last one.
    """
    why = "they are not signed by their zone"
    for signature in signatures:
        why = _what_is_wrong(signature, covered, now)
        if why:
            continue
        candidates = keys.get((signature.algorithm, signature.key_tag), ())
        if not candidates:
            why = f"the zone has no key with the tag {signature.key_tag}"
            continue
        why = "a signature does not verify"
        signed = _signed_bytes(signature, covered)
        for key in candidates:
            budget.spend()
            if _verifies(key, signature.value, signed):
                return min(covered.ttl, signature.original_ttl, signature.expiration - now)
    raise BogusError(f"DNSSEC does not prove the {covered}: {why}", _HINT)


def _what_is_wrong(signature: Signature, covered: RecordSet, now: float) -> str:
    labels = len(covered.owner) - 1
    if not supports(signature.algorithm):
        return f"a signature uses algorithm {signature.algorithm}, which is not supported"
    if signature.labels < labels:
        return "they come from a wildcard, which pinned anchors do not cover"
    if signature.labels > labels:
        return "a signature is for a longer name"
    if now > signature.expiration:
        return f"a signature expired at {_time(signature.expiration)}"
    if now < signature.inception:
        return f"a signature is not valid before {_time(signature.inception)} (is this device's clock right?)"
    return ""


def _signed_bytes(signature: Signature, covered: RecordSet) -> bytes:
    start = (covered.owner.canonicalize().to_wire() or b"") + struct.pack(
        "!HHI", covered.record_type, RdataClass.IN, signature.original_ttl
    )
    records = (start + len(rdata).to_bytes(2) + rdata for rdata in sorted(covered.rdatas))
    return signature.signed_part + b"".join(records)


def _verifies(key: DNSKEY, signature: bytes, signed: bytes) -> bool:
    try:
        dns.dnssecalgs.get_algorithm_cls_from_dnskey(key).public_cls.from_dnskey(key).verify(signature, signed)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, dns.exception.DNSException):
        return False
    return True


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
