"""The `Authentication` protocol, and its two implementations that need no keys: the AD bit, and none at all.

`validation` has the third implementation, which validates answers itself with pinned keys. `checking` verifies the
signatures for it, and `signatures` parses RRSIG records without verifying them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import dns.name
from dns.rdatatype import RdataType

from idlib.discovery.lookup import LookUp
from idlib.discovery.messages import Answer, Chain, RecordSet, UnusableAnswerError, follow, shown
from idlib.discovery.resolver import Reply, Resolver
from idlib.discovery.signatures import signatures_over, signing_zone
from idlib.errors import DiscoveryError, NotSecureError, TemporaryDiscoveryError

_BYTES_OF_MINIMUM: Final = 4  # the last field of an SOA record (RFC 1035, section 3.3.13)
_TYPES_OF_A_DENIAL: Final = (RdataType.SOA, RdataType.NSEC, RdataType.NSEC3)


@dataclass(frozen=True, slots=True)
class AuthenticRecords:
    """The data of a name's records of one type, authenticated.

    Args:
        rdatas: At least one, as found in DNS; they may be malformed.
        lifetime: How many seconds they may be used.
        authentication: How they were authenticated, as text.
        zone: The zone that signed the records at the name, in lower case without a trailing dot; None if the answer
            does not show it.
    """

    rdatas: tuple[bytes, ...]
    lifetime: float
    authentication: str
    zone: str | None = None


class Authentication(Protocol):
    """Looks up a name's records and authenticates them."""

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        """Return a device's records.

        Args:
            wanted: Says which.

        Raises:
            ProvenAbsenceError: Their absence is proven, or DNS cannot have such records.
            NotSecureError: The answer is not authenticated.
            BogusError: The answer fails authentication.
            TemporaryDiscoveryError: There is no answer.
        """


@dataclass(frozen=True)
class _WithoutKeys:
    """What the implementations without keys have in common.

    Args:
        resolver: Asks DNS.
        now: Seconds since the epoch, to see when signatures expire.
    """

    resolver: Resolver
    now: Callable[[], float] = time.time


class TrustedResolver(_WithoutKeys):
    """Trusts a validating resolver's AD bit if the path to the resolver is trusted (RFC 4035, section 4.9.3)."""

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        """Return a device's records; see `Authentication`."""
        question = wanted.question()
        reply = self.resolver.ask(question)
        address = reply.server.address
        if not reply.server.trusted:
            raise NotSecureError(
                f"the answer for {wanted.owner} came from the DNS server {address}, over a path that is not trusted",
                "if a validating resolver runs on this machine, set DNS_RESOLVER=127.0.0.1; else set DNS_RESOLVER to a"
                " validating resolver that you trust, or pin your zone's key (DNSSEC_TRUST_ANCHORS)",
            )
        chain = follow_in(reply, question.name, question.record_type)
        if not reply.answer.authenticated:
            raise NotSecureError(
                f"the DNS server {address} did not authenticate its answer for {wanted.owner} (no AD bit): the zone is"
                " not signed with DNSSEC, or the server does not validate",
                "sign the zone, and set DNS_RESOLVER to a validating resolver that you trust or pin the zone's key"
                " (DNSSEC_TRUST_ANCHORS)",
            )
        zone = _zone_of(question.name, chain, reply.answer)
        return _records_of(chain, reply, wanted, f"DNSSEC, validated by the resolver {address}", self.now(), zone)


class NoAuthentication(_WithoutKeys):
    """Accepts every answer (DNSSEC=off), and says so in every error and in `AuthenticRecords.authentication`."""

    def look_up(self, wanted: LookUp) -> AuthenticRecords:
        """Return a device's records; see `Authentication`."""
        try:
            question = wanted.question()
            reply = self.resolver.ask(question)
            chain = follow_in(reply, question.name, question.record_type)
            authentication = f"DNSSEC=off: the answer from {reply.server.address} is not authenticated"
            return _records_of(chain, reply, wanted, authentication, self.now(), None)
        except DiscoveryError as error:
            raise error.with_fact(f"{error.fact} (DNSSEC=off)") from error


def follow_in(reply: Reply, start: dns.name.Name, record_type: RdataType = RdataType.TLSA) -> Chain:
    """Return the chain from a name to its records of a type in a server's reply.

    Raises:
        TemporaryDiscoveryError: The reply contradicts itself or is about other names.
    """
    try:
        chain = follow(reply.answer, start, record_type)
    except UnusableAnswerError as error:
        raise _unusable(reply, start, str(error)) from error
    if chain.records is not None and not reply.name_exists:
        raise _unusable(reply, start, "it sent records of a name and reported that the name does not exist")
    return chain


def _unusable(reply: Reply, start: dns.name.Name, what: str) -> TemporaryDiscoveryError:
    return TemporaryDiscoveryError(
        f"the DNS server {reply.server.address} gives no usable answer for {shown(start)}: {what}",
        "ask another DNS server (DNS_RESOLVER)",
    )


def _zone_of(name: dns.name.Name, chain: Chain, answer: Answer) -> str | None:
    """Return the zone of the queried name, as validated by the resolver; None if the answer does not show it.

    An alias counts for its own zone: otherwise a stranger's aliases would use up their target's share.
    """
    if chain.aliases or chain.records is not None:
        first = chain.aliases[0] if chain.aliases else chain.records
        there = [record for record in answer.records if record.owner == name]
        zone = signing_zone(name, there, (first.record_type,) if first else ())
        if zone is None and chain.aliases:
            # A CNAME that follows from a DNAME is not signed (RFC 6672, section 5.3.1).
            above = [record for record in answer.records if record.owner != name and name.is_subdomain(record.owner)]
            zone = signing_zone(name, above, (RdataType.DNAME,))
    else:
        zone = signing_zone(name, answer.authority, _TYPES_OF_A_DENIAL)
    return None if zone is None else shown(zone.canonicalize())


def _records_of(
    chain: Chain, reply: Reply, wanted: LookUp, authentication: str, now: float, zone: str | None
) -> AuthenticRecords:
    if chain.records is None:
        raise wanted.absence(
            shown(chain.target) if chain.aliases else None,
            zone,
            _seconds_kept(reply.answer),
            name_exists=reply.name_exists,
        )
    lifetimes = [_lifetime(covered, reply.answer, now) for covered in (*chain.aliases, chain.records)]
    return AuthenticRecords(chain.records.rdatas, min(lifetimes), authentication, zone)


def _seconds_kept(denial: Answer) -> int:
    """Return for how long a resolver may repeat a denial: the TTL of the zone's SOA record, and at most its MINIMUM."""
    zones = [record for record in denial.authority if record.record_type == RdataType.SOA]
    return min((min(zone.ttl, int.from_bytes(zone.rdata[-_BYTES_OF_MINIMUM:])) for zone in zones), default=0)


def _lifetime(covered: RecordSet, answer: Answer, now: float) -> float:
    # The resolver has validated the signatures; they limit how long the records are valid, even if the TTL is longer.
    signatures = signatures_over(covered, answer.records)
    ends = [min(signature.original_ttl, signature.expiration - now) for signature in signatures]
    return min([covered.ttl, *ends])
