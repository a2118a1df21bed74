"""The epoch keys of a name: the mark in its certificate, its records in DNS, and their private halves here."""

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import dns.name
from dns.rdatatype import RdataType

from idlib.commands import command
from idlib.discovery import Discovery
from idlib.discovery.messages import Question
from idlib.epochs.record import MAX_RECORDS, PREFIX, EpochRecords, read_epoch_records
from idlib.epochs.selection import MAX_MESSAGE_LIFE_SECONDS, SHORTEST_REST_SECONDS, NoLiveEpoch, choose
from idlib.errors import DiscoveryError, MalformedNameError, PublishingError, TemporaryDiscoveryError, quoted
from idlib.names import IdentityName
from idlib.output import counted, rfc3339
from idlib.publishing.epoch_publication import TTL_PARTS, epoch_texts
from idlib.publishing.record_types import Place, epoch_place
from idlib.publishing.zone import HostResolver, NameServer, Zone
from idlib.records import is_marked
from idlib.settings import Settings
from messaging_maintenance.checks.catalogue import EPOCH_IDS
from messaging_maintenance.checks.exchange import NoRouteError, ask_over_tcp
from messaging_maintenance.checks.observation import Observation
from messaging_maintenance.checks.records import Judged
from messaging_maintenance.checks.result import Item, fail, ok, skip, warn
from messaging_maintenance.checks.running import in_parallel

_DAY_SECONDS: Final = 24 * 3600
# With this left of the key that dies last, the next one is late; keys with a short life have a part of it left.
_WARN_SECONDS: Final = 2 * _DAY_SECONDS
_FAIL_SECONDS: Final = _DAY_SECONDS
_WARN_PARTS: Final = 4
_FAIL_PARTS: Final = 8


@dataclass(frozen=True, slots=True)
class _Served:
    """What one name server answers about the epoch records over TCP.

    Args:
        server: The name server.
        ttl: Their TTL; None if there are none.
        texts: Their texts.
        size: The bytes of its answer.
        fault: Why there is no answer; empty if there is one.
        has_route: Whether this device can send to it at all.
    """

    server: str
    ttl: int | None = None
    texts: tuple[bytes, ...] = ()
    size: int = 0
    fault: str = ""
    has_route: bool = True


def check_epochs(
    seen: Observation, judged: Sequence[Judged], settings: Settings, epoch_length: int | None
) -> list[Item]:
    """Return what there is to say about the epoch keys of a name.

    A resolver is asked about `_epoch.NAME` only if the name is marked: it would remember for an hour that there is no
    such name.

    Args:
        seen: What DNS says about the name.
        judged: What its TLSA records are good for.
        settings: From the environment.
        epoch_length: EPOCH_LENGTH if the name is this device's.
    """
    usable = [one for one in judged if one.key is not None]
    if seen.chain is None or not usable:
        why = "there is no answer about the records" if seen.chain is None else "there is no usable TLSA record"
        return [skip("epochs.mark", why)]
    marked = any(is_marked(one.rdata) for one in usable)
    try:
        place, zone = HostResolver.from_settings(settings).follow(epoch_place(seen.name))
    except MalformedNameError as error:
        return [_unfindable(error.fact, "use a shorter name") if marked else _unmarked(())]
    except PublishingError as error:
        return _without_servers(error) if marked else [_unmarked(())]
    served = _ask_all(place, zone)
    if not marked:
        return [_unmarked(max((one.texts for one in served), key=len, default=()))]
    keys = [one.key for one in usable if one.key is not None]
    found, texts = _published_item(seen.name, settings, served)
    records = read_epoch_records(seen.name, texts, keys)
    return [
        ok("epochs.mark", f"{seen.name} is marked: senders use only its epoch keys"),
        _alias_item(seen.name, place),
        found,
        *_each_items(records, texts),
        judge_lives(records, int(time.time())),
        _ttl_item(served, epoch_length),
        _tcp_item(served),
    ]


def check_halves(seen: Observation, judged: Sequence[Judged], settings: Settings) -> list[Item]:
    """Return whether the private halves of this device's published epoch keys are on the disk.

    Args:
        seen: What DNS says about this device.
        judged: What its TLSA records are good for.
        settings: From the environment.
    """
    identifier = "epochs.halves"
    keys = [one.key for one in judged if one.key is not None]
    if not any(is_marked(one.rdata) for one in judged if one.key is not None):
        return [ok(identifier, "the name is not marked, so no private half is needed")]
    directory = settings.data_path / "epochs" if settings.epoch_path is None else settings.epoch_path
    try:
        here = set(os.listdir(directory))
    except OSError as error:
        return [skip(identifier, f"{quoted(directory)} cannot be read here: {error.strerror}")]
    try:
        texts = Discovery.from_settings(settings).find_epochs(seen.name).texts
    except DiscoveryError as error:
        return [skip(identifier, error.fact)]
    now = int(time.time())
    living = [one for one in read_epoch_records(seen.name, texts, keys).usable if one.record.until > now]
    missing = [one.key_id for one in living if one.key_id not in here]
    if missing:
        return [
            fail(
                identifier,
                f"{quoted(directory)} does not have the private half of {', '.join(missing)}: messages to it cannot be"
                " opened",
                "see that no copy of this device runs; the receiver publishes a key that it has within minutes",
            )
        ]
    return [ok(identifier, f"{quoted(directory)} has the private half of {counted(len(living), 'published key')}")]


def _unmarked(texts: Sequence[bytes]) -> Item:
    also = f", although DNS has {counted(len(texts), 'epoch record')}, which they do not use" if texts else ""
    return ok("epochs.mark", f"the name is not marked: senders encrypt to its identity key{also}")


def _unfindable(fact: str, hint: str) -> Item:
    return fail("epochs.published", f"the name is marked, and its epoch records cannot be found: {fact}", hint)


def _without_servers(error: PublishingError) -> list[Item]:
    return [skip(identifier, error.fact, error.hint) for identifier in EPOCH_IDS]


def _ask_all(place: Place, zone: Zone) -> list[_Served]:
    owner = dns.name.from_text(place.owner.text)
    question = Question(owner, RdataType.TXT, recursion_desired=False, over_tcp=True)

    def ask(server: NameServer) -> _Served:
        try:
            response = ask_over_tcp(server.address, question)
        except NoRouteError as error:
            return _Served(str(server), fault=error.fact, has_route=False)
        except TemporaryDiscoveryError as error:
            return _Served(str(server), fault=error.fact)
        records = response.answer.record_set(owner, RdataType.TXT)
        texts = epoch_texts(records.rdatas) if records else ()
        return _Served(str(server), records.ttl if records and texts else None, texts, response.size)

    return in_parallel([functools.partial(ask, server) for server in zone.servers])


def _alias_item(name: IdentityName, place: Place) -> Item:
    owner = epoch_place(name).owner
    if place.owner == owner:
        return ok("epochs.alias", f"{owner} is not an alias")
    return ok("epochs.alias", f"{owner} is an alias of {place.owner}, where the records are published")


def _published_item(name: IdentityName, settings: Settings, served: Sequence[_Served]) -> tuple[Item, Sequence[bytes]]:
    """Return whether senders find the records, and the records: those of the name servers if senders find none."""
    try:
        found = Discovery.from_settings(settings).find_epochs(name)
    except DiscoveryError as error:
        texts = max((one.texts for one in served), key=len, default=())
        if texts:
            why = f"name servers have {counted(len(texts), 'epoch record')}, but the resolver does not: {error.fact}"
            return fail("epochs.published", why, error.hint or "wait until the resolver has forgotten"), texts
        hint = f"run {command('identity epoch publish')}; see that the receiver runs with EPOCH_KEYS=on"
        return fail("epochs.published", error.fact, hint), texts
    texts = tuple(text for text in found.texts if text.startswith(PREFIX))
    return ok("epochs.published", f"senders find {counted(len(texts), 'epoch record')}"), texts


def _each_items(records: EpochRecords, texts: Sequence[bytes]) -> list[Item]:
    items = [
        ok("epochs.each", f"{one.key_id} from {rfc3339(one.record.start)} until {rfc3339(one.record.until)}")
        for one in records.usable
    ]
    hint = f"replace it with {command('identity epoch publish')}"
    items += [warn("epochs.each", f"a record is skipped: {one.reason}", hint) for one in records.skipped]
    if len(texts) > MAX_RECORDS:
        evidence = f"there are {len(texts)} epoch records, of which senders look at {MAX_RECORDS}"
        items.append(warn("epochs.each", evidence, hint))
    return items or [skip("epochs.each", "there is no epoch record")]


def judge_lives(records: EpochRecords, now: int) -> Item:
    """Return whether senders have a key, and whether the next one is late.

    Args:
        records: The epoch records.
        now: The time, in seconds since the epoch.
    """
    identifier = "epochs.last"
    hint = f"see that the receiver runs with EPOCH_KEYS=on, then run {command('identity epoch publish')}"
    chosen = choose(records, now, MAX_MESSAGE_LIFE_SECONDS)
    if isinstance(chosen, NoLiveEpoch):
        return fail(identifier, f"nothing can be sent to the name: {chosen.reason}", hint)
    last = max((one.record for one in records.usable), key=lambda record: record.until)
    left, life = last.until - now, last.until - last.start
    evidence = f"the key that lives longest is destroyed at {rfc3339(last.until)}"
    if left < min(_FAIL_SECONDS, life / _FAIL_PARTS):
        return fail(identifier, f"{evidence}, and no key follows it", hint)
    if left < max(min(_WARN_SECONDS, life / _WARN_PARTS), SHORTEST_REST_SECONDS):
        return warn(identifier, f"{evidence}, and no key follows it", hint)
    return ok(identifier, evidence)


def _ttl_item(served: Sequence[_Served], epoch_length: int | None) -> Item:
    ttls = [one.ttl for one in served if one.ttl is not None]
    if not ttls:
        return skip("epochs.ttl", "no name server has an epoch record")
    evidence = f"caches keep the epoch records for {max(ttls)} s"
    if epoch_length is not None and max(ttls) > epoch_length / TTL_PARTS:
        hint = "lower the TTL, or set a longer EPOCH_LENGTH for the receiver and the maintenance service"
        return warn("epochs.ttl", f"{evidence}, which is more than a quarter of EPOCH_LENGTH ({epoch_length} s)", hint)
    return ok("epochs.ttl", evidence)


def _tcp_item(served: Sequence[_Served]) -> Item:
    asked = [one for one in served if one.has_route]
    faults = [f"{one.server} {one.fault}" for one in asked if one.fault]
    faults += [f"{one.server} has no epoch record" for one in asked if not one.fault and not one.texts]
    if faults:
        return fail("epochs.tcp", "; ".join(faults), "open port 53 for TCP there, or wait for the zone transfer")
    if not asked:
        return skip("epochs.tcp", "this device has no route to a name server")
    return ok("epochs.tcp", f"each name server answers over TCP, with up to {max(one.size for one in asked)} bytes")
