"""DNSSEC validation with pinned zone keys: which zone must have signed an answer, and by which keys.

`checking` verifies each signature (docs/protocol.md, "Keys in DNS").
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

import dns.exception
import dns.name
import dns.rdata
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from idlib.discovery.anchors import Anchors, vouched_for
from idlib.discovery.authentication import AuthenticRecords, follow_in
from idlib.discovery.cache import Cache, CachedResult
from idlib.discovery.checking import Budget, KeysByTag, by_tag, validate
from idlib.discovery.lookup import LookUp
from idlib.discovery.messages import Answer, Question, RecordSet, ResourceRecord, shown
from idlib.discovery.resolver import Resolver
from idlib.discovery.signatures import Signature, signatures_over
from idlib.discovery.zone_cuts import shows_cut
from idlib.errors import BogusError, DiscoveryError, NotSecureError, TemporaryDiscoveryError

_BYTES_OF_A_KEY: Final = 1000


class PinnedAnchors:
    """Trusts only signatures by keys that a pinned DS or DNSKEY record of the signing zone authenticates.

    Args:
        resolver: Asks DNS; the AD bit of its answers is ignored.
        anchors: The pinned records of each zone.
        clock: Seconds that never run backwards, for cached keys.
        now: Seconds since the epoch, for signatures.
    """

    def __init__(
        self,
        resolver: Resolver,
        anchors: Anchors,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._resolver = resolver
        self._anchors = anchors
        self._now = now
        self._keys: Cache[dns.name.Name, KeysByTag] = Cache(clock)

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        """Return a device's records; see `Authentication`."""
        question = wanted.question(checking_disabled=True)
        zone_of_name = self._zone_of(question.name)
        reply = self._resolver.ask(question)
        chain = follow_in(reply, question.name, question.record_type)
        budget = Budget()
        lifetimes = [self._validate_alias(alias, reply.answer, budget) for alias in chain.aliases]
        zone = self._zone_of(chain.target)
        if chain.records is None:
            raise wanted.unproven_absence(shown(chain.target), str(reply.server.address))
        lifetimes.append(self._validate(chain.records, reply.answer.records, budget))
        return AuthenticRecords(
            chain.records.rdatas,
            min(lifetimes),
            f"DNSSEC, validated with the pinned key of {shown(zone)}",
            # The zone of the name, not of its alias's target: a stranger's aliases must not use up the target's share.
            shown(zone_of_name.canonicalize()),
        )

    def _zone_of(self, owner: dns.name.Name) -> dns.name.Name:
        zones = [zone for zone in self._anchors if owner.is_subdomain(zone)]
        if not zones:
            raise NotSecureError(
                f"{shown(owner)} is in none of the zones whose keys are pinned",
                "add its zone's DS or DNSKEY record to the file DNSSEC_TRUST_ANCHORS",
            )
        return max(zones, key=len)

    def _validate_alias(self, alias: RecordSet, answer: Answer, budget: Budget) -> float:
        if not signatures_over(alias, answer.records):
            alias = _source_of(alias, answer) or alias
        return self._validate(alias, answer.records, budget)

    def _validate(self, covered: RecordSet, records: Iterable[ResourceRecord], budget: Budget) -> float:
        zone = self._zone_of(covered.owner)
        signatures = signatures_over(covered, records)
        if all(signature.signer != zone for signature in signatures):
            self._look_for_cut(covered, signatures, zone, budget)
        return self._validate_by(zone, covered, signatures, budget)

    def _validate_by(
        self, zone: dns.name.Name, covered: RecordSet, signatures: Iterable[Signature], budget: Budget
    ) -> float:
        own = [signature for signature in signatures if signature.signer == zone]
        keys = self._keys.get(zone, lambda: self._ask_for_keys(zone)) if own else {}
        return validate(covered, own, keys, self._now(), budget)

    def _look_for_cut(
        self, covered: RecordSet, signatures: Iterable[Signature], zone: dns.name.Name, budget: Budget
    ) -> None:
        """Raise NotSecureError if the zone itself proves that the signer is another zone below it.

        The proof is needed because anyone on the path can write another signer's name, and must not cause a verdict.
        """
        signers = {signature.signer for signature in signatures}
        below = sorted(signer for signer in signers if covered.owner.is_subdomain(signer) and signer.is_subdomain(zone))
        for signer in below[:1]:
            answer = self._resolver.ask(Question(signer, RdataType.DS, checking_disabled=True)).answer
            records = (*answer.records, *answer.authority)
            for proof in shows_cut(signer, zone, answer):
                try:
                    self._validate_by(zone, proof, signatures_over(proof, records), budget)
                except BogusError:
                    continue
                raise NotSecureError(
                    f"{shown(covered.owner)} is in the zone {shown(signer)}, whose key is not pinned",
                    "add its zone's DS or DNSKEY record to the file DNSSEC_TRUST_ANCHORS",
                )

    def _ask_for_keys(self, zone: dns.name.Name) -> CachedResult[KeysByTag]:
        try:
            answer = self._resolver.ask(Question(zone, RdataType.DNSKEY, checking_disabled=True)).answer
            return self._read_keys(zone, answer)
        except DiscoveryError as error:
            return CachedResult.failed(error)

    def _read_keys(self, zone: dns.name.Name, answer: Answer) -> CachedResult[KeysByTag]:
        records = answer.record_set(zone, RdataType.DNSKEY)
        if records is None:
            raise TemporaryDiscoveryError(
                f"the zone {shown(zone)} has no DNSKEY records, or the DNS server withholds them",
                "ask another DNS server",
            )
        keys = list(_dnskeys(records.rdatas))
        pinned = vouched_for(zone, keys, self._anchors[zone])
        if not pinned:
            raise BogusError(
                f"no key of the zone {shown(zone)} matches the pinned one",
                "if the zone has a new key, put its DS record into the file DNSSEC_TRUST_ANCHORS",
            )
        own = [signature for signature in signatures_over(records, answer.records) if signature.signer == zone]
        lifetime = validate(records, own, by_tag(pinned), self._now(), Budget())
        return CachedResult(by_tag(keys), lifetime, _BYTES_OF_A_KEY * len(keys))


def _dnskeys(rdatas: Iterable[bytes]) -> Iterable[DNSKEY]:
    for rdata in rdatas:
        try:
            key = dns.rdata.from_wire(RdataClass.IN, RdataType.DNSKEY, rdata, 0, len(rdata))
        except dns.exception.DNSException:
            continue
        if isinstance(key, DNSKEY):
            yield key


def _source_of(alias: RecordSet, answer: Answer) -> RecordSet | None:
    """Return the DNAME records that an unsigned alias follows from (RFC 6672, section 5.3.1), or None."""
    for ancestor in _ancestors(alias.owner):
        source = answer.record_set(ancestor, RdataType.DNAME)
        if source is not None and len(source.rdatas) == 1:
            target = dns.name.from_wire(source.rdatas[0], 0)[0]
            try:
                follows = alias.owner.relativize(ancestor).concatenate(target)
            except dns.exception.DNSException:
                return None
            return source if follows == dns.name.from_wire(alias.rdatas[0], 0)[0] else None
    return None


def _ancestors(name: dns.name.Name) -> Iterable[dns.name.Name]:
    while name != dns.name.root:
        name = name.parent()
        yield name
