"""The resolver of this device: whether it is trusted, validates, rejects broken signatures, and uses EDNS and TCP."""

from collections.abc import Callable
from typing import Final

import dns.name
from dns.rdatatype import RdataType

from idlib.discovery import Found
from idlib.discovery.channel import Channel
from idlib.discovery.messages import Question
from idlib.discovery.resolver import Reply, Resolver, Server
from idlib.errors import BogusError, DiscoveryError, NoRecordError, NoUsableRecordError, TemporaryDiscoveryError
from idlib.settings import DnssecPolicy, ServerAddress, TlsResolver
from messaging_maintenance.checks.chain import zone_keys
from messaging_maintenance.checks.exchange import (
    Response,
    ask_over_channel,
    ask_over_tcp,
    ask_over_udp,
    why_silent_over_tcp,
)
from messaging_maintenance.checks.observation import LOOPBACK, Observation
from messaging_maintenance.checks.result import Item, Status, fail, ok, skip, warn

_UDP_PAYLOAD: Final = 1232
_USE_VALIDATING: Final = (
    "set DNS_RESOLVER to a validating resolver that you trust (apt install unbound, then DNS_RESOLVER=127.0.0.1), or"
    " pin the zone's key (DNSSEC_TRUST_ANCHORS)"
)


def check_resolver(
    seen: Observation, resolver: Resolver, bogus_name: str, when_silent: Callable[[str, str, str], Item] = fail
) -> list[Item]:
    """Return what there is to say about the resolver.

    Args:
        seen: What DNS says about a name.
        resolver: Asks it.
        bogus_name: A name whose DNSSEC signatures are broken.
        when_silent: Makes the item for a resolver that does not answer: it is a failure of this device, but says
            nothing about another one.
    """
    address = seen.servers[0].address
    if seen.silence:
        why = f"the resolver {address} {seen.silence}"
        hint = _hint_of_silence(seen)
        others = ("resolver.validates", "resolver.bogus", "resolver.edns", "resolver.tcp", "answer.size")
        return [_trusted_item(seen), when_silent("resolver.answers", why, hint), *(skip(one, why) for one in others)]
    question = Question(seen.start, RdataType.TLSA, checking_disabled=True)
    bogus = _bogus_item(seen, resolver, bogus_name)
    validates = _validates_item(seen, bogus)
    if validates.status is Status.FAIL and bogus.status is Status.FAIL:
        # It rejects nothing because it validates nothing.
        bogus = warn(bogus.id, bogus.evidence, bogus.hint)
    return [
        _trusted_item(seen),
        ok("resolver.answers", f"{address} answers"),
        validates,
        bogus,
        *_path_items(seen.servers[0], question),
    ]


def _hint_of_silence(seen: Observation) -> str:
    # For an encrypted path there are many causes, and the verdict has met the same one.
    if seen.servers[0].channel is not None and isinstance(seen.verdict, TemporaryDiscoveryError):
        return seen.verdict.hint
    return (
        "start the resolver, check the network, or set DNS_RESOLVER to another one; in a network that blocks port 53,"
        " to one that answers over HTTPS (docs/networks.md)"
    )


def _path_items(server: Server, question: Question) -> list[Item]:
    """Return what there is to say about EDNS, TCP and the size of the answer."""
    if server.channel is not None:
        return _items_of_channel(server, server.channel, question)
    if not isinstance(server.address, ServerAddress):
        raise TypeError(server.address)  # nothing may be sent in clear text to this server
    tcp, tcp_fault = _over_tcp(server.address, question)
    return [_edns_item(server.address, question), _tcp_item(server.address, tcp), _size_item(tcp, tcp_fault)]


def _items_of_channel(server: Server, channel: Channel, question: Question) -> list[Item]:
    not_needed = ok("resolver.tcp", f"not needed: {server.address} sends answers of any size over its encrypted path")
    try:
        response = ask_over_channel(channel, question)
    except TemporaryDiscoveryError as error:
        why = f"{server.address} {error.fact}"
        return [skip("resolver.edns", why), not_needed, skip("answer.size", why)]
    edns = (
        fail("resolver.edns", f"{server.address} does not use EDNS", "replace the resolver: DNSSEC needs EDNS")
        if response.edns_payload is None
        else ok("resolver.edns", f"{server.address} uses EDNS")
    )
    size = ok("answer.size", f"{response.size} bytes with its signatures and padding, over the encrypted path")
    return [edns, not_needed, size]


def _trusted_item(seen: Observation) -> Item:
    identifier = "resolver.trusted"
    addresses = ", ".join(str(server.address) for server in seen.servers)
    if seen.has_anchors:
        return ok(identifier, f"{addresses} need not be trusted: keys are pinned (DNSSEC_TRUST_ANCHORS)")
    if seen.policy is DnssecPolicy.OFF:
        return warn(identifier, f"{addresses} is used without authentication (DNSSEC=off)", "set DNSSEC=on")
    if not seen.servers[0].trusted:
        evidence = f"{addresses}, from /etc/resolv.conf, cannot be trusted: it is not on 127.0.0.1 or ::1"
        return fail(identifier, evidence, _USE_VALIDATING)
    address = seen.servers[0].address
    if not isinstance(address, ServerAddress):
        return ok(
            identifier,
            f"{addresses} is trusted, because DNS_RESOLVER names it; the path to it is encrypted and authenticated"
            f" (DNS over {'TLS' if isinstance(address, TlsResolver) else 'HTTPS'})",
        )
    if address.address in LOOPBACK:
        return ok(identifier, f"{addresses} is trusted: it is on this machine")
    return ok(
        identifier, f"{addresses} is trusted, because DNS_RESOLVER names it; answers are as safe as the path to it"
    )


def _validates_item(seen: Observation, bogus: Item) -> Item:
    identifier = "resolver.validates"
    address = seen.servers[0].address
    if seen.has_anchors:
        return ok(identifier, "not needed: this program validates signatures with pinned keys")
    if seen.has_authenticated_answer():
        return ok(identifier, f"{address} authenticates answers (AD bit)")
    if isinstance(seen.verdict, Found | NoRecordError | NoUsableRecordError) and seen.policy is DnssecPolicy.ON:
        return ok(identifier, f"{address} authenticates the answer about {seen.name} (AD bit)")
    if isinstance(seen.verdict, BogusError) or bogus.status is Status.OK:
        return ok(identifier, f"{address} rejects broken signatures")
    if _is_signed_chain(seen) or bogus.status is Status.FAIL:
        evidence = f"{address} does not authenticate answers from signed zones (no AD bit): it does not validate"
        return fail(identifier, evidence, _USE_VALIDATING)
    return skip(identifier, f"no answer from a signed zone was seen, so it is not known whether {address} validates")


def _is_signed_chain(seen: Observation) -> bool:
    """Return whether there is an answer that a validating resolver would authenticate."""
    if isinstance(seen.facts.get((dns.name.root, RdataType.SOA)), Reply):
        return True
    zone = seen.zone_of(seen.start)
    has_keys = zone is not None and bool(zone_keys(seen, zone))
    return has_keys and zone is not None and seen.record_set(zone, RdataType.DS) is not None


def _bogus_item(seen: Observation, resolver: Resolver, bogus_name: str) -> Item:
    identifier = "resolver.bogus"
    address = seen.servers[0].address
    if seen.has_anchors:
        return ok(identifier, "not needed: this program validates signatures with pinned keys")
    faults = []
    # Which type exists there depends on the name; signatures are broken over any that does.
    for record_type in (RdataType.A, RdataType.TLSA):
        owner = dns.name.from_text(bogus_name)
        try:
            answer = resolver.ask(Question(owner, record_type)).answer
        except BogusError:
            return ok(identifier, f"{address} rejects {bogus_name}, whose signatures are broken")
        except DiscoveryError as error:
            faults.append(error.fact)
            continue
        if answer.record_set(owner, record_type) is not None:
            evidence = f"{address} accepts {bogus_name}, whose signatures are broken (DNS_BOGUS_NAME)"
            return fail(identifier, evidence, _USE_VALIDATING)
        faults.append("it has no records")
    return skip(identifier, f"{bogus_name}, whose signatures are broken, cannot be looked up: {faults[0]}")


def _edns_item(address: ServerAddress, question: Question) -> Item:
    identifier = "resolver.edns"
    try:
        response = ask_over_udp(address, question)
    except TemporaryDiscoveryError as error:
        return skip(identifier, f"{address} {error.fact}")
    if response.edns_payload is None:
        hint = "replace the resolver, or the router that answers in its place: DNSSEC needs EDNS"
        return fail(identifier, f"{address} does not use EDNS", hint)
    if response.edns_payload < _UDP_PAYLOAD:
        hint = f"let it accept {_UDP_PAYLOAD} bytes"
        return warn(identifier, f"{address} accepts UDP packets of {response.edns_payload} bytes only", hint)
    return ok(identifier, f"{address} uses EDNS, with packets of {response.edns_payload} bytes")


def _over_tcp(address: ServerAddress, question: Question) -> tuple[Response | None, str]:
    try:
        return ask_over_tcp(address, question), ""
    except TemporaryDiscoveryError as error:
        return None, error.fact


def _tcp_item(address: ServerAddress, response: Response | None) -> Item:
    if response is None and (fault := why_silent_over_tcp(address)):
        hint = "let the resolver answer over TCP, and open port 53 to it: large answers come over TCP only"
        return fail("resolver.tcp", f"{address} over TCP {fault}", hint)
    return ok("resolver.tcp", f"{address} answers over TCP")


def _size_item(response: Response | None, fault: str) -> Item:
    identifier = "answer.size"
    if response is None:
        return skip(identifier, f"the whole answer cannot be read over TCP: the resolver {fault}")
    over = "needs TCP" if response.size > _UDP_PAYLOAD else "fits into one UDP packet"
    return ok(identifier, f"{response.size} bytes with its signatures, which {over}")
