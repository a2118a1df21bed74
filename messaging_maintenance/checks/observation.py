"""What DNS says about a name: the verdict that a device reaches, and everything that explains it.

The queries that explain it have the CD bit set, so that a validating resolver answers even if its validation fails.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.name
from dns.rdatatype import RdataType

from idlib.discovery import Discovery, Found
from idlib.discovery.authentication import follow_in
from idlib.discovery.messages import MAX_ALIASES, Chain, Question, RecordSet, ResourceRecord
from idlib.discovery.resolver import Reply, Resolver, Server, servers_from
from idlib.errors import DiscoveryError, TemporaryDiscoveryError
from idlib.names import IdentityName
from idlib.settings import DnssecPolicy, ServerAddress, Settings
from messaging_maintenance.checks.exchange import why_silent, why_silent_over_channel
from messaging_maintenance.checks.running import in_parallel

SECONDS: Final = 4.0
LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_LOWEST: Final = 8
_HIGHEST: Final = 3
_MAX_OWNERS: Final = 3
_EXPLAINING_TYPES: Final = (RdataType.DNSKEY, RdataType.DS, RdataType.NS)

Asked = Reply | DiscoveryError
Facts = Mapping[tuple[dns.name.Name, RdataType], Asked]


@dataclass(frozen=True, slots=True)
class Observation:
    """What DNS says about a name.

    Args:
        name: The name.
        verdict: What a device with these settings makes of it.
        reply: The answer about its TLSA records, validated or not; an error if there is none.
        chain: The way to the records in that answer; None if there is no answer, or it contradicts itself.
        trail: The name and the aliases behind it, found one by one, if there is no answer that contains them all.
        facts: What was answered about the names above it and above what it is an alias of, by name and type.
        servers: The resolvers that are asked.
        silence: Why the first of them does not answer; empty if it does.
        policy: Whether answers must be authenticated.
        has_anchors: Whether keys are pinned, so that the resolver need not be trusted.
    """

    name: IdentityName
    verdict: Found | DiscoveryError
    reply: Asked
    chain: Chain | None
    trail: tuple[dns.name.Name, ...]
    facts: Facts
    servers: Sequence[Server]
    silence: str
    policy: DnssecPolicy
    has_anchors: bool

    @property
    def start(self) -> dns.name.Name:
        """The name in its form for DNS."""
        return dns.name.from_text(self.name.text)

    @property
    def records(self) -> tuple[ResourceRecord, ...]:
        """The answer and authority sections of the answer; empty if there is none."""
        if isinstance(self.reply, DiscoveryError):
            return ()
        return (*self.reply.answer.records, *self.reply.answer.authority)

    @property
    def rdatas(self) -> tuple[bytes, ...]:
        """The data of the TLSA records in the answer, authenticated or not."""
        return () if self.chain is None or self.chain.records is None else self.chain.records.rdatas

    @property
    def owners(self) -> tuple[dns.name.Name, ...]:
        """The name, and what it is an alias of."""
        if self.chain is None:
            return (self.start,)
        return tuple(dict.fromkeys((self.start, *(alias.owner for alias in self.chain.aliases), self.chain.target)))

    def record_set(self, owner: dns.name.Name, record_type: RdataType) -> RecordSet | None:
        """Return records that were asked for, or None if there are none or they could not be asked for.

        Args:
            owner: Their name.
            record_type: One of SOA, DNSKEY, DS and NS.
        """
        asked = self.facts.get((owner, record_type))
        return asked.answer.record_set(owner, record_type) if isinstance(asked, Reply) else None

    def is_answered(self, owner: dns.name.Name, record_type: RdataType) -> bool:
        """Return whether there is an answer to a query, with or without records.

        Args:
            owner: The name that was asked for.
            record_type: The type that was asked for.
        """
        return isinstance(self.facts.get((owner, record_type)), Reply)

    def zones_of(self, owner: dns.name.Name) -> tuple[dns.name.Name, ...]:
        """Return the zones that a name is in, as far as they are known, the one nearest to the root first.

        Args:
            owner: The name itself or one that it is an alias of.
        """
        types = (RdataType.SOA, RdataType.DNSKEY, RdataType.DS, RdataType.NS)
        below_root = [ancestor for ancestor in ancestors_of(owner) if ancestor != dns.name.root]
        return tuple(
            ancestor
            for ancestor in reversed(below_root)
            if any(self.record_set(ancestor, record_type) is not None for record_type in types)
        )

    def zone_of(self, owner: dns.name.Name) -> dns.name.Name | None:
        """Return the zone that a name is in; None if it is not known.

        Args:
            owner: The name itself or one that it is an alias of.
        """
        zones = self.zones_of(owner)
        return zones[-1] if zones else None

    @property
    def has_endless_aliases(self) -> bool:
        """Whether the name's aliases lead back to where they began, or are too many."""
        return len(self.trail) > MAX_ALIASES + 1 or len(set(self.trail)) < len(self.trail)

    def has_authenticated_answer(self) -> bool:
        """Return whether any answer of the resolver had the AD bit."""
        replies = [self.reply, *self.facts.values()]
        return any(isinstance(reply, Reply) and reply.answer.authenticated for reply in replies)


def observe(name: IdentityName, settings: Settings) -> Observation:
    """Return what DNS says about a name; waits for DNS, within a time limit for each query.

    Args:
        name: The name.
        settings: From the environment, with `idlib.settings.DISCOVERY_READS`.

    Raises:
        ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
    """
    discovery = Discovery.from_settings(settings)
    servers_of = servers_from(settings)
    resolver = Resolver(servers_of, SECONDS)
    servers = servers_of()
    start = dns.name.from_text(name.text)
    verdicts: list[Found | DiscoveryError] = []
    plain: list[Asked] = []
    unvalidated: list[Asked] = []
    facts: dict[tuple[dns.name.Name, RdataType], Asked] = {}
    silence = _why_silent(servers[0])
    explaining = _explaining(resolver, ancestors_of(start), facts)
    in_parallel(
        [
            lambda: verdicts.append(_find(discovery, name)),
            lambda: plain.append(_ask(resolver, Question(start, RdataType.TLSA))),
            lambda: unvalidated.append(_ask(resolver, Question(start, RdataType.TLSA, checking_disabled=True))),
            # A resolver that is silent is asked only for what the verdict needs.
            *([] if silence else explaining),
        ]
    )
    repliers = [asked.server for asked in (*plain, *unvalidated) if isinstance(asked, Reply)]
    if silence and repliers:
        # Another resolver has answered, or the first one answers recursive queries alone.
        in_parallel(explaining)
        silence = "" if servers[0] in repliers else silence
    reply = plain[0] if isinstance(plain[0], Reply) else unvalidated[0]
    chain = _follow(reply, start)
    if chain is not None:
        owners = tuple(dict.fromkeys((*(alias.owner for alias in chain.aliases), chain.target)))[-_MAX_OWNERS:]
        further = {ancestor: None for owner in owners for ancestor in ancestors_of(owner)}
        in_parallel(
            _explaining(resolver, [ancestor for ancestor in further if (ancestor, RdataType.NS) not in facts], facts)
        )
    return Observation(
        name,
        verdicts[0],
        reply,
        chain,
        _trail(resolver, start) if chain is None and not silence else (start,),
        facts,
        servers,
        silence,
        settings.dnssec,
        has_anchors=settings.dnssec_trust_anchors is not None,
    )


def _why_silent(server: Server) -> str:
    if server.channel is not None:
        return why_silent_over_channel(server.channel)
    return why_silent(server.address) if isinstance(server.address, ServerAddress) else ""


def ancestors_of(name: dns.name.Name) -> list[dns.name.Name]:
    """Return a name and the names above it, the root last; of a name with many labels the lowest and the highest.

    Args:
        name: An absolute name.
    """
    found = [name]
    while found[-1] != dns.name.root:
        found.append(found[-1].parent())
    return [*found[:_LOWEST], *found[_LOWEST:][-_HIGHEST:]]


def _explaining(
    resolver: Resolver, names: Iterable[dns.name.Name], facts: dict[tuple[dns.name.Name, RdataType], Asked]
) -> list[Callable[[], None]]:
    """Return calls that store in `facts` what is asked about each name."""

    def asking(question: Question) -> Callable[[], None]:
        def ask() -> None:
            facts[question.name, question.record_type] = _ask(resolver, question)

        return ask

    questions = []
    for name in names:
        # Without the CD bit, so that the AD bit shows whether the resolver validates.
        questions.append(Question(name, RdataType.SOA))
        questions += [Question(name, record_type, checking_disabled=True) for record_type in _EXPLAINING_TYPES]
    return [asking(question) for question in questions]


def _find(discovery: Discovery, name: IdentityName) -> Found | DiscoveryError:
    try:
        return discovery.find(name)
    except DiscoveryError as error:
        return error


def _ask(resolver: Resolver, question: Question) -> Asked:
    try:
        return resolver.ask(question)
    except DiscoveryError as error:
        return error


def _trail(resolver: Resolver, start: dns.name.Name) -> tuple[dns.name.Name, ...]:
    """Return a name and the aliases behind it: until one comes again, and at most one more than are followed."""
    trail = [start]
    deadline = time.monotonic() + SECONDS
    while len(trail) <= MAX_ALIASES + 1 and len(set(trail)) == len(trail) and time.monotonic() < deadline:
        reply = _ask(resolver, Question(trail[-1], RdataType.CNAME, checking_disabled=True))
        alias = reply.answer.record_set(trail[-1], RdataType.CNAME) if isinstance(reply, Reply) else None
        if alias is None:
            break
        trail.append(dns.name.from_wire(alias.rdatas[0], 0)[0])
    return tuple(trail)


def _follow(reply: Asked, start: dns.name.Name) -> Chain | None:
    if isinstance(reply, DiscoveryError):
        return None
    try:
        return follow_in(reply, start)
    except (TemporaryDiscoveryError, dns.exception.DNSException):
        return None
