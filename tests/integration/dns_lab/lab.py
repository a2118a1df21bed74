"""The lab: Knot as the authority of the table's zones, misbehaving servers beside it, Unbound as the validator."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dns.name

from tests.integration.daemons.process import LOOPBACK, Daemon, free_port, run_tool
from tests.integration.dns_lab import material, signing, zones
from tests.integration.dns_lab.conditions import CONDITIONS, Condition
from tests.integration.dns_lab.servers import Served, misbehaving
from tests.integration.dns_lab.signing import Key
from tests.integration.dns_lab.zones import Delegation, Signer, Zone

_KNOT: Final = """\
server:
    listen: {address}@{port}
    rundir: {directory}
    tcp-workers: 2
    udp-workers: 2
    background-workers: 2
log:
  - target: stderr
    any: info
database:
    storage: {directory}
policy:
{policies}
template:
  - id: default
    storage: {directory}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
{zones}
"""
_UNBOUND: Final = """\
server:
    interface: {address}
    port: {port}
    access-control: 127.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 1
    num-threads: 1
    do-ip6: no
    do-not-query-localhost: no
    ede: {extended_errors}
    module-config: "validator iterator"
    local-zone: "test." nodefault
    trust-anchor-file: "{anchors}"
"""
_ZONE_FILE: Final = """\
$ORIGIN {zone}.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
target._device 60 {target}
"""


@dataclass(frozen=True)
class DnsLab:
    """Where the lab's servers listen, and whose keys are pinned.

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
    with misbehaving() as served, _knot(directory, keys) as (port, knot_anchors):
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
        with (
            _unbound(directory / "unbound", anchored, stubs, extended_errors="no") as unbound,
            _unbound(directory / "explaining", anchored, stubs, extended_errors="yes") as explaining,
        ):
            yield DnsLab(port, unbound, explaining, served, directory / "pinned", authorities)


@contextmanager
def _knot(directory: Path, keys: Mapping[str, Key]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the authority's port, and for each signed zone the DS record that is trusted."""
    port = free_port()
    contents = _contents(keys)
    for zone in zones.ZONES:
        text = contents[zone.name]
        if zone.signer is Signer.HAND:
            text = _signed_by_hand(zone, text, keys[zone.name])
        (directory / f"{zone.name}.zone").write_text(text)
    configuration = directory / "knot.conf"
    configuration.write_text(
        _KNOT.format(
            address=LOOPBACK,
            port=port,
            directory=directory,
            policies="\n".join(_policy(zone) for zone in zones.ZONES if zone.signer is Signer.KNOT),
            zones="\n".join(map(_zone_entry, zones.ZONES)),
        )
    )
    ready = [f"[{zone.name}.] loaded, serial" for zone in zones.ZONES]
    with Daemon(
        ["knotd", "-c", str(configuration)],
        directory / "knot.log",
        lambda log: all(line in log for line in ready) and "server started" in log,
    ):
        anchors = {name: key.anchor for name, key in keys.items()}
        anchors[zones.ANOTHER_ANCHOR] = Key.generate(zones.ANOTHER_ANCHOR).anchor
        for zone in zones.ZONES:
            if zone.signer is Signer.KNOT:
                lines = run_tool("keymgr", "-c", str(configuration), f"{zone.name}.", "ds").splitlines()
                anchors[zone.name] = next(line for line in lines if line.split()[4] == "2")
        yield port, anchors


@contextmanager
def _unbound(
    directory: Path, anchors: Iterable[str], stubs: Mapping[str, int], *, extended_errors: str
) -> Iterator[int]:
    directory.mkdir()
    port = free_port()
    (directory / "anchors").write_text("\n".join(anchors) + "\n")
    text = _UNBOUND.format(
        address=LOOPBACK,
        port=port,
        directory=directory,
        anchors=directory / "anchors",
        extended_errors=extended_errors,
    )
    for zone, authority in stubs.items():
        text += f'stub-zone:\n    name: "{zone}."\n    stub-addr: {LOOPBACK}@{authority}\n'
    configuration = directory / "unbound.conf"
    configuration.write_text(text)
    with Daemon(
        ["unbound", "-d", "-c", str(configuration)], directory / "unbound.log", lambda log: "start of service" in log
    ):
        yield port


def _policy(zone: Zone) -> str:
    denial = "\n    nsec3: on\n    nsec3-iterations: 0" if zone.nsec3 else ""
    opt_out = "\n    nsec3-opt-out: on" if zone.opt_out else ""
    return f"  - id: {zone.name}\n    algorithm: {zone.algorithm}{denial}{opt_out}"


def _zone_entry(zone: Zone) -> str:
    signing_entry = f"\n    dnssec-signing: on\n    dnssec-policy: {zone.name}" if zone.signer is Signer.KNOT else ""
    return f"  - domain: {zone.name}{signing_entry}"


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
