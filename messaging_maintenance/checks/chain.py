"""Whether DNSSEC protects a name's records, and if not, at which zone the chain of trust breaks and why."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import dns.exception
import dns.name
import dns.rdata
from dns.dnssectypes import DSDigest
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS

from idlib.discovery import Found
from idlib.discovery.anchors import vouched_for
from idlib.discovery.checking import Budget, by_tag, supports, validate
from idlib.discovery.messages import RecordSet, ResourceRecord, record_set, shown
from idlib.discovery.resolver import Reply
from idlib.discovery.signatures import Signature, signatures_over
from idlib.errors import (
    BogusError,
    DiscoveryError,
    NoRecordError,
    NotSecureError,
    NoUsableRecordError,
    UnprovenAbsenceError,
)
from idlib.settings import DnssecPolicy
from idlib.trust import EARLIEST_CREDIBLE_TIME
from messaging_maintenance.checks.observation import Observation
from messaging_maintenance.checks.result import Item, fail, ok, skip, warn

_DIGESTS: Final = frozenset({DSDigest.SHA256, DSDigest.SHA384})
_SEP_FLAG: Final = 1
_DAY: Final = 86400
# What a signer should leave of a signature's period; BIND, Knot and the large providers renew earlier.
_LEAST_SHARE: Final = 0.1
_CLOCK_TOLERANCE_SECONDS: Final = 300
# A zone with signatures that expired earlier would have been noticed; the clock is more likely to be wrong.
_LONGEST_EXPIRED_SECONDS: Final = 365 * _DAY
_DENIALS: Final = (RdataType.NSEC, RdataType.NSEC3)
_WATCH: Final = "see dnsviz.net for a picture of the chain"


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain of trust breaks.

    Args:
        id: The check that names the reason.
        zone: The zone, without the trailing dot.
        fact: What is wrong.
        hint: What to do.
    """

    id: str
    zone: str
    fact: str
    hint: str


def check_chain(seen: Observation, now: float | None = None) -> list[Item]:
    """Return what there is to say about the chain of trust.

    Args:
        seen: What DNS says about the name.
        now: Seconds since the epoch; None for this device's clock.
    """
    now = time.time() if now is None else now
    signatures = list(_all_signatures(seen))
    breaks = list(_breaks(seen, now))
    is_secure = isinstance(seen.verdict, Found | NoRecordError | NoUsableRecordError)
    if is_secure and seen.policy is DnssecPolicy.ON:
        # What the validator accepts is accepted; anything else is a matter of the clock.
        breaks = []
    elif isinstance(seen.verdict, BogusError) and not breaks:
        breaks = [_unexplained(seen)]
    return [
        _overall(seen, breaks),
        *(_item(identifier, seen, breaks) for identifier in ("chain.signed", "chain.delegation")),
        _signatures_item(breaks, signatures, now),
        _clock_item(seen, signatures, now, is_secure=is_secure),
    ]


def zone_keys(seen: Observation, zone: dns.name.Name) -> list[DNSKEY]:
    """Return a zone's keys, as the resolver reports them.

    Args:
        seen: What DNS says about a name.
        zone: A zone of that name.
    """
    return [key for key in _parsed(seen.record_set(zone, RdataType.DNSKEY)) if isinstance(key, DNSKEY)]


def is_clock_wrong(seen: Observation, now: float) -> bool:
    """Return whether this device's clock is before this software was made, or outside all signatures that were seen.

    Args:
        seen: What DNS says about a name.
        now: What the clock shows, in seconds since the epoch.
    """
    if now < EARLIEST_CREDIBLE_TIME:
        return True
    period = _period_of(list(_all_signatures(seen)))
    return period is not None and not period[0] <= now <= period[1]


def _overall(seen: Observation, breaks: Sequence[Break]) -> Item:
    verdict, where = seen.verdict, f": {breaks[0].fact}" if breaks else ""
    hint = breaks[0].hint if breaks else ""
    if seen.policy is DnssecPolicy.OFF:
        return warn("chain", f"not checked, because DNSSEC=off{where}", "set DNSSEC=on except for tests")
    match verdict:
        case Found():
            return ok("chain", f"secure: {verdict.authentication}")
        case NoRecordError():
            return ok("chain", f"secure: it is proven that there is no record ({verdict.fact})")
        case NoUsableRecordError():
            return ok("chain", f"secure: {verdict.fact}")
        case NotSecureError():
            return _insecure(seen, verdict, breaks)
        case BogusError():
            return fail("chain", f"bogus{where or f': {verdict.fact}'}", hint or verdict.hint)
        case UnprovenAbsenceError():
            return warn("chain", verdict.fact, "check without DNSSEC_TRUST_ANCHORS to prove an absence")
    return _temporary(seen, verdict)


def _insecure(seen: Observation, verdict: NotSecureError, breaks: Sequence[Break]) -> Item:
    if not seen.has_anchors and not seen.servers[0].trusted:
        return skip("chain", verdict.fact, verdict.hint)
    if breaks:
        return fail("chain", f"insecure from {breaks[0].zone} on: {breaks[0].fact}", breaks[0].hint)
    zone = seen.zone_of(seen.start)
    if zone is not None and seen.chain is not None and seen.chain.records is None and zone_keys(seen, zone):
        fact = f"insecure: {shown(zone)} is signed, but does not prove that the record is absent (NSEC3 opt-out)"
        return warn("chain", fact, "publish the record, which will be signed")
    return fail("chain", f"insecure: {verdict.fact}", verdict.hint)


def _temporary(seen: Observation, verdict: DiscoveryError) -> Item:
    if seen.silence:
        return skip("chain", f"the resolver {seen.servers[0].address} {seen.silence}", verdict.hint)
    if seen.has_endless_aliases:
        return fail("chain", f"temporary: {verdict.fact}; its aliases have no end", "correct the aliases (CNAME)")
    return fail(
        "chain",
        f"temporary: {verdict.fact}; the resolver itself answers, but no name server of the zone gives it a usable"
        " answer",
        "check that the zone's name servers run, serve the zone, and can be reached at port 53 over UDP and TCP; if"
        " network.port53 fails, open that port first",
    )


def _item(identifier: str, seen: Observation, breaks: Sequence[Break]) -> Item:
    for found in breaks:
        if found.id == identifier:
            return fail(identifier, found.fact, found.hint)
    zones = [zone for owner in seen.owners if (zone := seen.zone_of(owner)) is not None]
    if not zones:
        return skip(identifier, f"the zone of {seen.name} is not known")
    described = [_signed(seen, zone) if identifier == "chain.signed" else _delegated(seen, zone) for zone in zones]
    evidence = "; ".join(dict.fromkeys(filter(None, described)))
    if not evidence:
        return skip(identifier, _why_unknown(seen, zones[0]))
    return ok(identifier, evidence)


def _why_unknown(seen: Observation, zone: dns.name.Name) -> str:
    name = shown(zone)
    if not seen.is_answered(zone, RdataType.DNSKEY):
        return f"there is no answer about the keys of {name}"
    if not zone_keys(seen, zone):
        return f"{name} has no keys"
    if not seen.is_answered(zone, RdataType.DS):
        return f"there is no answer about the DS record of {name}"
    return f"there is no DS record for {name}, or it is of another kind than its keys"


def _signed(seen: Observation, zone: dns.name.Name) -> str:
    tags = [f"{key.key_id()} (algorithm {int(key.algorithm)})" for key in zone_keys(seen, zone)]
    return f"{shown(zone)} has the keys {', '.join(tags)}" if tags else ""


def _delegated(seen: Observation, zone: dns.name.Name) -> str:
    anchors = [anchor for anchor in _parsed(seen.record_set(zone, RdataType.DS)) if isinstance(anchor, DS)]
    matching = vouched_for(zone, zone_keys(seen, zone), (anchor for anchor in anchors if _is_usable(anchor)))
    if matching:
        tags = ", ".join(str(key.key_id()) for key in matching)
        return f"a DS record at the parent of {shown(zone)} matches the key {tags}"
    if isinstance(seen.verdict, Found | NoRecordError | NoUsableRecordError) and zone_keys(seen, zone):
        return f"the key of {shown(zone)} is trusted without a DS record, because it is pinned here or in the resolver"
    return ""


def _breaks(seen: Observation, now: float) -> Iterator[Break]:
    """Yield where the chain breaks, the place nearest to the root first."""
    zones = dict.fromkeys(zone for owner in seen.owners for zone in seen.zones_of(owner))
    broken = set()
    for zone in zones:
        for found in _breaks_at(seen, zone, now):
            broken.add(zone)
            yield found
    for covered in _sets_of_answer(seen):
        zone_of_set = seen.zone_of(covered.owner) or _zone_above(seen, covered.owner)
        if zone_of_set is not None and zone_of_set not in broken:
            yield from _breaks_over(seen, covered, zone_of_set, now)
    if not broken and _lacks_denial(seen):
        zone_shown = shown(seen.zone_of(seen.start) or seen.start)
        fact = f"{zone_shown} does not prove that the record is absent: its answer has no NSEC or NSEC3 record"
        yield Break("chain.signatures", zone_shown, fact, "sign the zone again; its chain of NSEC records is damaged")


def _breaks_at(seen: Observation, zone: dns.name.Name, now: float) -> Iterator[Break]:
    """Yield what is wrong between a zone and its parent."""
    name, keys = shown(zone), zone_keys(seen, zone)
    anchors = [anchor for anchor in _parsed(seen.record_set(zone, RdataType.DS)) if isinstance(anchor, DS)]
    if not keys:
        if seen.is_answered(zone, RdataType.DNSKEY):
            yield _without_keys(seen, zone, has_ds=bool(anchors))
        return
    usable = [anchor for anchor in anchors if _is_usable(anchor)]
    matching = vouched_for(zone, keys, usable)
    if anchors and not usable:
        kinds = ", ".join(f"algorithm {int(one.algorithm)} with digest {int(one.digest_type)}" for one in anchors[:3])
        yield Break(
            "chain.delegation",
            name,
            f"the DS records of {name} are of kinds that are not supported ({kinds}), so that it counts as unsigned",
            "publish a DS record with digest 2 (SHA-256) of a key with algorithm 8, 13, 14 or 15",
        )
    elif anchors and not matching:
        yield Break(
            "chain.delegation",
            name,
            f"no key of {name} matches the DS record at its parent",
            "have your registrar, or the owner of the zone above, replace the DS record by that of the zone's key",
        )
    elif not anchors and seen.is_answered(zone, RdataType.DS) and isinstance(seen.verdict, NotSecureError):
        yield Break(
            "chain.delegation",
            name,
            f"{name} is signed, but there is no DS record for it at its parent",
            "give the zone's DS record to your registrar, or to the owner of the zone above; resolvers may remember for"
            " up to a day that there was none",
        )
    records, asked = seen.record_set(zone, RdataType.DNSKEY), seen.facts[zone, RdataType.DNSKEY]
    if records is not None and isinstance(asked, Reply):
        signers = matching or [key for key in keys if int(key.flags) & _SEP_FLAG] or keys
        try:
            validate(records, signatures_over(records, asked.answer.records), by_tag(signers), now, Budget())
        except BogusError as error:
            if all(map(_is_supported, signers)):
                yield Break("chain.signatures", name, error.fact, _hint_for(error))


def _without_keys(seen: Observation, zone: dns.name.Name, *, has_ds: bool) -> Break:
    name = shown(zone)
    if has_ds:
        fact = f"there is a DS record for {name} at its parent, but {name} has no DNSKEY records"
        hint = "sign the zone, or have the DS record removed; or something on the path removes signatures"
    elif any(signature.signer == zone for signature in _all_signatures(seen)):
        fact = f"{name} has signatures, but no DNSKEY records"
        hint = "publish the zone's DNSKEY records; see the name server's log"
    else:
        fact = f"{name} is not signed: it has no DNSKEY records"
        hint = "sign the zone with DNSSEC, and have its DS record published at the zone above"
    return Break("chain.signed", name, fact, hint)


def _breaks_over(seen: Observation, covered: RecordSet, zone: dns.name.Name, now: float) -> Iterator[Break]:
    keys = zone_keys(seen, zone)
    signatures = signatures_over(covered, seen.records)
    if not keys or any(signature.labels < len(covered.owner) - 1 for signature in signatures):
        # What comes from a wildcard is left to the resolver.
        return
    try:
        validate(covered, [one for one in signatures if one.signer == zone], by_tag(keys), now, Budget())
    except BogusError as error:
        yield Break("chain.signatures", shown(zone), error.fact, _hint_for(error))


def _hint_for(error: BogusError) -> str:
    if "expired" in error.fact:
        return f"have the zone signed again, or set this device's clock if it is ahead; {_WATCH}"
    if "not valid before" in error.fact:
        return f"set this device's clock, or that of the machine that signs the zone; {_WATCH}"
    return f"have the zone signed again; {_WATCH}"


def _unexplained(seen: Observation) -> Break:
    zone = seen.zone_of(seen.owners[-1])
    name = shown(zone) if zone is not None else str(seen.name)
    if zone is not None and zone_keys(seen, zone) and seen.record_set(zone, RdataType.DS) is None:
        fact = f"{name} is signed, but with a key that the resolver does not trust"
        hint = "replace the DS record at the parent, or the key that is pinned in the resolver or on this device"
        return Break("chain.delegation", name, fact, hint)
    verdict = str(seen.verdict.fact) if isinstance(seen.verdict, DiscoveryError) else ""
    if not any(_all_signatures(seen)):
        hint = f"see the log of the resolver {seen.servers[0].address}; {_WATCH}"
        return Break("chain.signatures", name, f"no signature can be seen from here, and {verdict}", hint)
    hint = f"set the clock of the resolver {seen.servers[0].address}, or restart it to empty its cache; {_WATCH}"
    return Break("chain.signatures", name, f"the signatures seen from here verify, but {verdict}", hint)


def _sets_of_answer(seen: Observation) -> Iterator[RecordSet]:
    """Yield the sets of records in the answer that their zones must have signed."""
    if seen.chain is None or isinstance(seen.reply, DiscoveryError):
        return
    has_dname = any(record.record_type == RdataType.DNAME for record in seen.records)
    for alias in seen.chain.aliases:
        # A CNAME that follows from a DNAME is not signed (RFC 6672, section 5.3.1).
        if not has_dname or signatures_over(alias, seen.records):
            yield alias
    if seen.chain.records is not None:
        yield seen.chain.records
        return
    authority = seen.reply.answer.authority
    for owner, record_type in dict.fromkeys((record.owner, record.record_type) for record in authority):
        covered = record_set(authority, owner, record_type)
        if record_type in _DENIALS and covered is not None:
            yield covered


def _lacks_denial(seen: Observation) -> bool:
    if seen.chain is None or seen.chain.records is not None or not isinstance(seen.verdict, BogusError):
        return False
    return not any(record.record_type in _DENIALS for record in seen.records)


def _zone_above(seen: Observation, owner: dns.name.Name) -> dns.name.Name | None:
    known = {name for name, record_type in seen.facts if seen.record_set(name, record_type) is not None}
    zones = [name for name in known if name != dns.name.root and owner.is_subdomain(name)]
    return max(zones, key=len, default=None)


def _all_signatures(seen: Observation) -> Iterator[Signature]:
    """Yield every signature over the records of the answer, and over keys and DS records of the name's zones."""
    records: list[ResourceRecord] = list(seen.records)
    for (_, record_type), asked in seen.facts.items():
        if isinstance(asked, Reply) and record_type in (RdataType.DNSKEY, RdataType.DS):
            records += asked.answer.records
    for record in records:
        if record.record_type == RdataType.RRSIG:
            try:
                yield Signature.from_rdata(record.rdata)
            except ValueError:
                continue


def _signatures_item(breaks: Sequence[Break], signatures: Sequence[Signature], now: float) -> Item:
    identifier = "chain.signatures"
    for found in breaks:
        if found.id == identifier:
            return fail(identifier, found.fact, found.hint)
    valid = [one for one in signatures if one.inception <= now <= one.expiration]
    if not valid:
        which = "signatures that are valid at the time that the clock shows" if signatures else "signatures"
        return skip(identifier, f"there are no {which}")
    first = min(valid, key=lambda one: one.expiration)
    days = (first.expiration - now) / _DAY
    evidence = f"valid for {days:.1f} more days, until {_date(first.expiration)} ({shown(first.signer)})"
    if first.expiration - now < (first.expiration - first.inception) * _LEAST_SHARE:
        return warn(identifier, evidence, "see whether the zone's signer still runs: it should have renewed them")
    return ok(identifier, evidence)


def _clock_item(seen: Observation, signatures: Sequence[Signature], now: float, *, is_secure: bool) -> Item:
    identifier, shows = "clock.signatures", f"the clock shows {_date(now)}"
    if now < EARLIEST_CREDIBLE_TIME:
        return fail(identifier, f"{shows}, which is before this software was made", "set the clock of this device")
    period = _period_of(signatures)
    if period is None:
        return skip(identifier, f"{shows}; there is no signature to compare it with")
    early, late = period
    if early <= now <= late:
        return ok(identifier, f"{shows}, within the period of the signatures")
    all_of = "that the resolver accepts " if is_secure and not seen.has_anchors else ""
    evidence = f"{shows}, but all signatures {all_of}are valid between {_date(early)} and {_date(late)}"
    if is_secure or now < early or now > late + _LONGEST_EXPIRED_SECONDS:
        return fail(identifier, evidence, "set the clock of this device")
    # A signer that has stopped and a clock that is ahead look the same from here.
    return warn(identifier, evidence, "compare the clock of this device with another; if it is ahead, set it")


def _period_of(signatures: Sequence[Signature]) -> tuple[float, float] | None:
    """Return from when until when a clock may be right; None if there are no signatures."""
    if not signatures:
        return None
    early = min(one.inception for one in signatures)
    late = max(one.expiration for one in signatures)
    return early - _CLOCK_TOLERANCE_SECONDS, late + _CLOCK_TOLERANCE_SECONDS


def _parsed(records: RecordSet | None) -> Iterator[dns.rdata.Rdata]:
    if records is None:
        return
    for rdata in records.rdatas:
        try:
            yield dns.rdata.from_wire(RdataClass.IN, RdataType.make(records.record_type), rdata, 0, len(rdata))
        except dns.exception.DNSException:
            continue


def _is_usable(anchor: DS) -> bool:
    return supports(int(anchor.algorithm)) and anchor.digest_type in _DIGESTS


def _is_supported(key: DNSKEY) -> bool:
    return supports(int(key.algorithm))


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
