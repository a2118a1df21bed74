"""Observations as tests make them: of a zone that signs itself, without asking any server."""

import time
from datetime import UTC, datetime, timedelta

import dns.flags
import dns.message
import dns.name
from dns.rdatatype import RdataType

from idlib.discovery import Found
from idlib.discovery.authentication import follow_in
from idlib.discovery.messages import Question, read_answer
from idlib.discovery.resolver import Reply, Server
from idlib.errors import DiscoveryError
from idlib.names import IdentityName
from idlib.settings import DnssecPolicy, ServerAddress
from messaging_maintenance.checks.observation import Asked, Observation, ancestors_of
from testbed.name_server import Zone

NAME = IdentityName("alice._device.example.test")
RESOLVER = Server(ServerAddress("127.0.0.1"), trusted=True)
SECURE = Found(NAME, (), (), "DNSSEC, validated by the resolver 127.0.0.1:53")


def signed_zone(
    *records: str, since: timedelta = timedelta(days=-7), until: timedelta = timedelta(days=7), ttl: int = 60
) -> Zone:
    """Return a zone with TLSA records at NAME.

    Args:
        records: As `3 0 0 HEX`.
        since: From when its signatures are valid, from now.
        until: Until when they are, from now.
        ttl: Of the records, in seconds.
    """
    zone = Zone(dns.name.from_text("example.test"))
    zone.add_text("@", "SOA", "ns.example.test. hostmaster.example.test. 7 3600 600 86400 3600")
    zone.add_text("@", "NS", "ns.example.test.")
    zone.add_text("ns", "A", "127.0.0.1")
    if records:
        zone.add_text(f"{NAME}.", "TLSA", *records, ttl=ttl)
    now = datetime.now(UTC)
    for rrset in zone.records.values():
        zone.sign(rrset, now + since, now + until)
    return zone


def reply_of(zone: Zone, name: dns.name.Name, record_type: RdataType, *, is_authenticated: bool = True) -> Reply:
    """Return a zone's answer, as a resolver passes it on."""
    question = Question(name, record_type)
    response = zone.answer(dns.message.from_wire(question.to_wire(1)))
    if is_authenticated:
        response.flags |= dns.flags.AD
    return Reply(read_answer(response.to_wire(max_size=65535), question, 1), RESOLVER)


def observed(zone: Zone, verdict: Found | DiscoveryError = SECURE, silence: str = "") -> Observation:
    """Return what is observed of NAME in a zone.

    Args:
        zone: Answers every query.
        verdict: What a device makes of the answer.
        silence: Why the resolver does not answer.
    """
    start = dns.name.from_text(str(NAME))
    facts: dict[tuple[dns.name.Name, RdataType], Asked] = {
        (owner, record_type): reply_of(zone, owner, record_type)
        for owner in ancestors_of(start)
        for record_type in (RdataType.SOA, RdataType.DNSKEY, RdataType.DS, RdataType.NS)
    }
    reply = reply_of(zone, start, RdataType.TLSA)
    return Observation(
        NAME,
        verdict,
        reply,
        follow_in(reply, start),
        (start,),
        facts,
        [RESOLVER],
        silence,
        DnssecPolicy.ON,
        has_anchors=False,
    )


def in_days(days: float) -> float:
    """Return a time in so many days, in seconds since the epoch."""
    return time.time() + days * 86400
