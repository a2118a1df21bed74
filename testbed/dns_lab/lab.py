"""The lab: Knot as the authority of the table's zones, misbehaving servers for some, Unbound as the validator."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dns.name

from testbed.daemons.knot import Knot
from testbed.daemons.knot import Zone as ServedByKnot
from testbed.daemons.unbound import Unbound
from testbed.dns_lab import material, signing, zones
from testbed.dns_lab.conditions import CONDITIONS, Condition
from testbed.dns_lab.servers import Served, misbehaving
from testbed.dns_lab.signing import Key
from testbed.dns_lab.zones import Delegation, Signer, Zone

_ZONE_FILE: Final = """\
$ORIGIN {zone}.
$TTL 60
@ 3600 SOA ns hostmaster 1 3600 600 86400 3600
@ NS ns
ns A 127.0.0.1
target._device 60 {target}
"""


@dataclass(frozen=True)
class DnsLab:
    """The ports of the lab's servers, and the pinned keys.

    Args:
        knot: The port of the authority.
        unbound: The port of the validating resolver.
        explaining_unbound: The port of another one, which sends extended errors.
        served: The zones that have another authority.
        anchors: A file for DNSSEC_TRUST_ANCHORS.
        authorities: A file for PKIX_CA_FILE.
    """

    knot: int
    unbound: int
    explaining_unbound: int
    served: Mapping[str, Served]
    anchors: Path
    authorities: Path

    def authority_of(self, condition: Condition) -> int:
        """Return the port of the server that has the zone of a condition."""
        served = self.served.get(condition.zone)
        return served.port if served else self.knot


@contextmanager
def running(directory: Path) -> Iterator[DnsLab]:
    """Yield the lab, running.

    Args:
        directory: An existing, empty directory.
    """
    keys = {zone.name: _hand_made_key(zone) for zone in zones.ZONES if zone.signer is Signer.HAND}
    with misbehaving(directory) as served, _knot(directory, keys) as (port, knot_anchors):
        lines = {zone: served_zone.anchor for zone, served_zone in served.items()} | knot_anchors
        anchored = [lines[zone.name] for zone in zones.ZONES if zone.anchored]
        anchored += [served_zone.anchor for served_zone in served.values() if served_zone.signed]
        stubs = {zone.name: port for zone in zones.ZONES} | {zones.LAME: port}
        stubs |= {zone: served_zone.port for zone, served_zone in served.items()}
        pinned = [lines[zone.name] for zone in zones.ZONES if zone.pinned]
        pinned += [served_zone.anchor for served_zone in served.values()]
        pinned.append(f"{zones.LAME}. IN DS 1 13 2 {'00' * 32}")
        (directory / "pinned").write_text("\n".join(pinned) + "\n")
        authorities = directory / "authorities.pem"
        authorities.write_bytes(material.authority_pem())
        places = [directory / "unbound", directory / "explaining"]
        for place in places:
            place.mkdir()
        with (
            Unbound(places[0], stubs, anchored) as unbound,
            Unbound(places[1], stubs, anchored, explains=True) as explaining,
        ):
            yield DnsLab(port, unbound.port, explaining.port, served, directory / "pinned", authorities)


@contextmanager
def _knot(directory: Path, keys: Mapping[str, Key]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the authority's port, and for each signed zone the DS record that is trusted."""
    contents = _contents(keys)
    with Knot(directory, [_as_served(zone, contents[zone.name], keys) for zone in zones.ZONES]) as knot:
        anchors = {name: key.anchor for name, key in keys.items()}
        anchors[zones.ANOTHER_ANCHOR] = Key.generate(zones.ANOTHER_ANCHOR).anchor
        anchors |= {zone.name: knot.ds(zone.name) for zone in knot.zones if zone.signed}
        yield knot.port, anchors


def _as_served(zone: Zone, text: str, keys: Mapping[str, Key]) -> ServedByKnot:
    if zone.signer is not Signer.KNOT:
        by_hand = _signed_by_hand(zone, text, keys[zone.name]) if zone.signer is Signer.HAND else text
        return ServedByKnot(zone.name, signed=False, text=by_hand)
    policy = [f"algorithm: {zone.algorithm}"]
    if zone.nsec3:
        policy += ["nsec3: on", "nsec3-iterations: 0"]
    if zone.opt_out:
        policy.append("nsec3-opt-out: on")
    return ServedByKnot(zone.name, policy=policy, text=text)


def _hand_made_key(zone: Zone) -> Key:
    key = Key.generate(zone.name, 15 if zone.name == zones.COLLISION else 13)
    return key.of_unknown_algorithm() if zone.name == zones.UNKNOWN_ALGORITHM else key


def _contents(keys: Mapping[str, Key]) -> dict[str, str]:
    """Return each zone's text, without signatures."""
    target = _tlsa("3 0 0 p256", "")
    texts = {zone.name: _ZONE_FILE.format(zone=zone.name, target=target) for zone in zones.ZONES}
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for zone in zones.ZONES:
        if zone.parent:
            lines[zone.parent] += _delegation(zone, keys.get(zone.name))
    for condition in CONDITIONS:
        owner = condition.owner.format(zone=condition.zone) or condition.name
        lines[condition.zone] += [
            *(f"{owner}. {condition.ttl} {_tlsa(record, condition.name)}" for record in condition.records),
            *(f"{holder} 60 {_tlsa(record, condition.name)}" for holder, record in condition.holders),
            *(line.format(name=f"{owner}.") for line in condition.elsewhere),
        ]
    return {zone: text + "".join(f"{line}\n" for line in lines[zone]) for zone, text in texts.items()}


def _delegation(zone: Zone, key: Key | None) -> list[str]:
    lines = [f"{zone.name}. 60 NS ns.{zone.name}.", f"ns.{zone.name}. 60 A 127.0.0.1"]
    if zone.delegation is not Delegation.NONE:
        right = zone.delegation is not Delegation.WRONG and key
        ds = (right or Key.generate(zone.name)).ds
        if zone.delegation is Delegation.UNKNOWN_DIGEST:
            tag, algorithm, _, digest = ds.split(maxsplit=3)
            ds = f"{tag} {algorithm} 200 {digest}"
        lines.append(f"{zone.name}. 60 DS {ds}")
    return lines


def _signed_by_hand(zone: Zone, text: str, key: Key) -> str:
    damages = {
        dns.name.from_text(condition.name): condition.damage for condition in CONDITIONS if condition.zone == zone.name
    }
    match zone.name:
        case zones.TWINS:
            return signing.signed_zone(text, key, damages, [key.colliding(1)])
        case zones.COLLISION:
            return signing.signed_zone(text, key, damages, [key.colliding(number) for number in range(1, 16)])
        case zones.KEYS_EXPIRED:
            return signing.signed_zone(text, key, damages, damage_of_keys=signing.expired)
        case zones.KEYS_NOT_SIGNED:
            return signing.signed_zone(text, key, damages, damage_of_keys=signing.stripped)
        case zones.NO_KEYS:
            return signing.without(signing.signed_zone(text, key, damages), "DNSKEY")
        case zones.NO_DENIAL:
            return signing.without(signing.signed_zone(text, key, damages), "NSEC")
    return signing.signed_zone(text, key, damages)


def _tlsa(record: str, name: str) -> str:
    octets = material.rdata(record, name)
    return f"TLSA \\# {len(octets)} {octets.hex()}"
