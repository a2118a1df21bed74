"""The TLSA records of a name: whether they are there, which of them can be used, and which one a sender chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dns.name
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.verification import Store
from dns.rdatatype import RdataType

from idlib.algorithms import PublicKey
from idlib.commands import how_to_publish
from idlib.discovery import MAX_JUDGED, MAX_RECORDS
from idlib.discovery.authorities import read_authorities, read_system_authorities
from idlib.discovery.found import MAX_KEYS
from idlib.discovery.messages import MAX_ALIASES, Question, shown
from idlib.discovery.resolver import Resolver
from idlib.discovery.signatures import signatures_over
from idlib.errors import DiscoveryError, MalformedRecordError, NoRecordError, UnusableRecordError
from idlib.names import IdentityName
from idlib.output import counted
from idlib.publishing.change import shorten
from idlib.records import TlsaRecord, judge, rank
from idlib.settings import ServerAddress
from messaging_maintenance.checks.exchange import ask_over_tcp
from messaging_maintenance.checks.name_servers import Served
from messaging_maintenance.checks.observation import Observation
from messaging_maintenance.checks.result import Item, fail, ok, skip, warn

_LONGEST_TTL: Final = 86400
_PKIX_EE: Final = 1
# What DNS providers make of a TLSA record whose form asks for port and protocol (RFC 6698, section 3).
_PORT_AND_PROTOCOL: Final = "_443._tcp"


@dataclass(frozen=True, slots=True)
class Judged:
    """A TLSA record and what it is good for.

    Args:
        rdata: Its data.
        key: Its key; None if it cannot be used.
        reason: Why it cannot be used; empty if it can.
        hint: What to do; may be empty.
    """

    rdata: bytes
    key: PublicKey | None
    reason: str = ""
    hint: str = ""


def judge_all(rdatas: Sequence[bytes], name: IdentityName, authority_file: Path | None) -> tuple[Judged, ...]:
    """Return what each of the first 16 records is good for, in the order in which senders look at them.

    Args:
        rdatas: The data of the records.
        name: The name that they are for.
        authority_file: PKIX_CA_FILE; None for the system's CAs.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    ranked = rank(rdatas)[:MAX_JUDGED]
    authorities: Store | None = None
    if any(rdata[:1] == bytes((_PKIX_EE,)) for rdata in ranked):
        authorities = read_system_authorities() if authority_file is None else read_authorities(authority_file)
    return tuple(_judge_one(rdata, name, authorities) for rdata in ranked)


def check_records(
    seen: Observation, judged: Sequence[Judged], served: Sequence[Served], resolver: Resolver
) -> list[Item]:
    """Return what there is to say about a name's records.

    Args:
        seen: What DNS says about the name.
        judged: What the records are good for.
        served: What the zone's name servers answer.
        resolver: Looks for records at other names.
    """
    alias = _alias_item(seen)
    if seen.chain is None:
        why = "there is no answer about the records"
        others = ("record.published", "record.cache", "record.place", "record.usable", "record.each", "record.chosen")
        return [alias, *(skip(identifier, why) for identifier in (*others, "record.number", "record.ttl"))]
    if seen.chain.records is None:
        return [*_absence_items(seen, served, resolver), alias]
    return [
        ok("record.published", f"{seen.name} has {counted(len(seen.rdatas), 'TLSA record')}"),
        ok("record.cache", "the resolver has the records"),
        _wildcard_item(seen),
        alias,
        _usable_item(seen, judged),
        *_each_items(seen, judged),
        _chosen_item(seen, judged),
        _number_item(seen, judged),
        _ttl_item(max((seen.chain.records.ttl, *(one.ttl for one in served if one.ttl is not None)))),
    ]


def _judge_one(rdata: bytes, name: IdentityName, authorities: Store | None) -> Judged:
    try:
        return Judged(rdata, judge(TlsaRecord.from_rdata(rdata), name, datetime.now(UTC), authorities).public_key)
    except (MalformedRecordError, UnusableRecordError) as error:
        return Judged(rdata, None, error.fact, error.hint)


def _absence_items(seen: Observation, served: Sequence[Served], resolver: Resolver) -> list[Item]:
    serving = [one for one in served if one.rdatas]
    if serving:
        servers = ", ".join(str(one.server) for one in serving)
        kept = seen.verdict.kept_seconds if isinstance(seen.verdict, NoRecordError) else 0
        period = f" for up to another {kept} s" if kept else ""
        return [
            ok("record.published", f"name servers of the zone have the record: {servers}"),
            fail(
                "record.cache",
                f"the record is published, but the resolver {seen.servers[0].address} still reports{period} that there"
                " is none, because it was asked before",
                "wait, or restart the resolver to empty its cache",
            ),
            *_without_records("the resolver does not show the records yet"),
        ]
    places = _misplaced(seen, served, resolver)
    what = "has no TLSA record" if _name_exists(seen) else "does not exist in DNS"
    if len(seen.owners) > 1:
        what = f"is an alias (CNAME) of {shown(seen.owners[-1])}, which {what}"
    items = [
        skip("record.published", f"{seen.name} {what}, but a wrong name has one; see record.place")
        if places
        else fail("record.published", f"{seen.name} {what}", how_to_publish()),
        ok("record.cache", "no name server has the record either")
        if any(one.rdatas is not None for one in served)
        else skip("record.cache", "no name server of the zone could be asked directly"),
    ]
    if places:
        evidence = f"there is a TLSA record at {places[0]} instead of {seen.name}"
        items.append(fail("record.place", evidence, f"move it from {places[0]} to {seen.name}"))
    else:
        items.append(ok("record.place", "there is none at the usual wrong names either"))
    return [*items, *_without_records("there is no record", are_absent=True)]


def _without_records(why: str, *, are_absent: bool = False) -> list[Item]:
    place = [] if are_absent else [skip("record.place", why)]
    others = ("record.usable", "record.each", "record.chosen", "record.number", "record.ttl")
    return [*place, *(skip(identifier, why) for identifier in others)]


def _name_exists(seen: Observation) -> bool:
    return not isinstance(seen.reply, DiscoveryError) and seen.reply.name_exists


def _misplaced(seen: Observation, served: Sequence[Served], resolver: Resolver) -> list[str]:
    """Return names at which the record may have been entered by mistake, and which have a TLSA record."""
    zone = seen.zone_of(seen.start)
    candidates = [f"{_PORT_AND_PROTOCOL}.{seen.name}"]
    if zone is not None:
        # Forms that append the zone's name to what already ends in it.
        candidates += [f"{seen.name}.{shown(zone)}", f"{_PORT_AND_PROTOCOL}.{seen.name}.{shown(zone)}"]
    # Past every cache if possible, because a resolver may remember that there was none.
    server = next((one.server.address for one in served if one.whole is not None), None)
    return [candidate for candidate in candidates if _has_record(candidate, server, resolver)]


def _has_record(candidate: str, server: ServerAddress | None, resolver: Resolver) -> bool:
    try:
        owner = dns.name.from_text(candidate)
        question = Question(owner, RdataType.TLSA, checking_disabled=True)
        answer = resolver.ask(question).answer if server is None else ask_over_tcp(server, question).answer
    except (DiscoveryError, dns.name.NameTooLong):
        return False
    return answer.record_set(owner, RdataType.TLSA) is not None


def _wildcard_item(seen: Observation) -> Item:
    sets = [] if seen.chain is None or seen.chain.records is None else [*seen.chain.aliases, seen.chain.records]
    for covered in sets:
        labels = len(covered.owner) - 1
        fewest = min((one.labels for one in signatures_over(covered, seen.records)), default=labels)
        if fewest < labels:
            wildcard = dns.name.Name((b"*", *covered.owner.labels[labels - fewest :]))
            return warn(
                "record.place",
                f"the record of {shown(covered.owner)} comes from the wildcard {shown(wildcard)}, which gives the same"
                " key to every name below it; devices with pinned keys refuse it",
                f"publish the record at {seen.name} itself",
            )
    return ok("record.place", f"the record is at {shown(seen.owners[-1])} itself")


def _alias_item(seen: Observation) -> Item:
    if seen.has_endless_aliases:
        return fail(
            "record.alias",
            f"the aliases (CNAME) of {seen.name} lead back to where they began, or are more than {MAX_ALIASES}:"
            f" {_way(seen.trail)}",
            "publish the record at the name itself",
        )
    if seen.chain is None:
        return skip("record.alias", "there is no answer")
    if not seen.chain.aliases:
        return ok("record.alias", f"{seen.name} is not an alias")
    return ok("record.alias", f"the records are at an alias (CNAME): {_way(seen.owners)}")


def _way(owners: Sequence[dns.name.Name]) -> str:
    return " → ".join(map(shown, owners))


def _usable_item(seen: Observation, judged: Sequence[Judged]) -> Item:
    usable = [one for one in judged if one.key is not None]
    total = len(seen.rdatas)
    evidence = f"{len(usable)} of {counted(total, 'record')} can be used"
    if not usable:
        return fail("record.usable", f"{evidence}: {judged[0].reason}", judged[0].hint or how_to_publish())
    return ok("record.usable", evidence)


def _each_items(seen: Observation, judged: Sequence[Judged]) -> list[Item]:
    items = []
    for one in judged:
        text = shorten(one.rdata)
        if one.key is not None:
            items.append(ok("record.each", f"{text}: {_described(one.key)}"))
        else:
            # If none can be used, record.usable fails.
            items.append(warn("record.each", f"{text}: {one.reason}", one.hint or "remove the record"))
    if len(seen.rdatas) > len(judged):
        rest = len(seen.rdatas) - len(judged)
        items.append(warn("record.each", f"{rest} more records, which no one looks at", "remove what is of no use"))
    return items


def _chosen_item(seen: Observation, judged: Sequence[Judged]) -> Item:
    if isinstance(seen.verdict, DiscoveryError):
        return skip("record.chosen", f"senders use none of them: {seen.verdict.fact}")
    for one in judged:
        if one.key is not None:
            return ok("record.chosen", f"senders encrypt to {shorten(one.rdata)} ({_described(one.key)})")
    return skip("record.chosen", "no record can be used")


def _number_item(seen: Observation, judged: Sequence[Judged]) -> Item:
    keys = {one.key.der for one in judged if one.key is not None}
    total = len(seen.rdatas)
    evidence = f"{counted(total, 'record')}, {counted(len(keys), 'key')}"
    if total > MAX_RECORDS or len(keys) > MAX_KEYS:
        limits = f"of at most {MAX_RECORDS} records and {MAX_KEYS} keys, the rest is ignored"
        return warn("record.number", f"{evidence}: {limits}", "remove what is of no use")
    return ok("record.number", evidence)


def _ttl_item(ttl: int) -> Item:
    evidence = f"caches keep the records for {ttl} s"
    if ttl > _LONGEST_TTL:
        return warn("record.ttl", evidence, "lower the TTL, so that a lost key can be replaced within a day")
    return ok("record.ttl", evidence)


def _described(key: PublicKey) -> str:
    native = key.native
    return f"RSA {native.key_size}" if isinstance(native, rsa.RSAPublicKey) else "EC P-256"
