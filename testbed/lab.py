"""The lab of the tests: daemons that run for the whole session, and devices created in it."""

import contextlib
import itertools
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from testbed.daemons.knot import Knot, Zone
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import SEARCH_PATH, find
from testbed.daemons.unbound import Unbound
from testbed.programs import CREATE_SELFSIGNED_ID, Device

SECURE: Final = "example.test"
UNSIGNED: Final = "unsigned.test"
BOGUS: Final = "bogus.test"
ZONES: Final = (Zone(SECURE), Zone(UNSIGNED, signed=False), Zone(BOGUS))
DEBIAN_PACKAGES: Final = {
    "mosquitto": "mosquitto",
    "nats-server": "nats-server",
    "rabbitmqctl": "rabbitmq-server",
    "epmd": "erlang-base",
    "knotd": "knot",
    "knotc": "knot",
    "keymgr": "knot",
    "unbound": "unbound",
    "dnsdist": "dnsdist",
    "named": "bind9",
    "tsig-keygen": "bind9",
    "ddns-confgen": "bind9",
    "pdns_server": "pdns-server",
    # The backend has no command of its own; this one comes with the server, whose installation it completes.
    "pdnsutil": "pdns-backend-sqlite3",
    "kdig": "knot-dnsutils",
    "initdb": "postgresql",
    # What stands between a device and the servers.
    "haproxy": "haproxy",
    "microsocks": "microsocks",
    "tinyproxy": "tinyproxy-bin",
    "ip": "iproute2",
    "nft": "nftables",
    "setpriv": "util-linux",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    # What the documents show.
    "mosquitto_pub": "mosquitto-clients",
    "curl": "curl",
    "dig": "bind9-dnsutils",
    "jq": "jq",
    "nsupdate": "bind9-dnsutils",
    # What completes commands and shows man pages.
    "fish": "fish",
    "man": "man-db",
    "mandoc": "mandoc",
    "zsh": "zsh",
    "systemctl": "systemd",
    # Checks metrics and alert rules; its server is not used.
    "promtool": "prometheus",
}


_NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


def missing_packages(packages: Mapping[str, str]) -> list[str]:
    """Return the Debian packages whose commands are not installed.

    Args:
        packages: The package of each command.
    """
    return sorted({package for command, package in packages.items() if shutil.which(command, path=SEARCH_PATH) is None})


def trusted_keys(knot: Knot) -> tuple[str, ...]:
    """Return the DS records for a resolver to trust, with a wrong one for the zone that must be bogus."""
    return knot.ds(SECURE), another_key(knot.ds(BOGUS))


def authorities(knot: Knot) -> dict[str, int]:
    """Return the name server's port for each of its zones, for a resolver."""
    return {zone.name: knot.port for zone in knot.zones}


def another_key(ds: str) -> str:
    """Return a DS record with the digest of another key."""
    digest = ds.rsplit(maxsplit=1)[-1]
    return ds.removesuffix(digest) + digest[::-1]


@contextlib.contextmanager
def open_lab(
    directory: Path, namespace: Namespace | None = None, *, broker_extra: str = "", resolver_extra: str = ""
) -> Iterator["Lab"]:
    """Start the daemons; in a network namespace at the well-known ports, where reference libraries look for them.

    Args:
        directory: For the files of daemons and devices.
        namespace: Where they run; None for free ports of this machine's loopback.
        broker_extra: Further lines of the broker's configuration.
        resolver_extra: Further lines of the resolver's configuration.
    """
    places = {name: directory / name for name in ("knot", "unbound", "mosquitto", "devices")}
    for place in places.values():
        place.mkdir()
    authority_port, resolver_port, broker_port = (5300, 53, 1883) if namespace else (None, None, None)
    with (
        Knot(places["knot"], ZONES, authority_port, namespace=namespace) as knot,
        Unbound(
            places["unbound"],
            authorities(knot),
            trusted_keys(knot),
            resolver_port,
            namespace=namespace,
            extra=resolver_extra,
        ) as unbound,
        Mosquitto(places["mosquitto"], port=broker_port, namespace=namespace, extra=broker_extra) as mosquitto,
    ):
        yield Lab(places["devices"], mosquitto, knot, unbound, namespace.entrance if namespace else ())


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
    """Wait until a condition holds.

    Args:
        condition: Checked ten times a second.
        what: What is waited for, for the error message.
        timeout: Seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {timeout:g} s"
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Lab:
    """A broker, a name server and a resolver; creates devices.

    Args:
        directory: For the devices' files.
        mosquitto: The broker.
        knot: The name server.
        unbound: The resolver.
        entrance: Prefix of the programs' command lines, to run them in the network namespace of the daemons.
    """

    directory: Path
    mosquitto: Mosquitto
    knot: Knot
    unbound: Unbound
    entrance: tuple[str, ...] = ()
    _counter: "itertools.count[int]" = field(default_factory=itertools.count)

    def ask(self, name: str, record_type: str = "TLSA") -> str:
        """Return the resolver's answer about a name's records of a type, as kdig prints it."""
        server = [f"@{self.unbound.host}", "-p", str(self.unbound.port)]
        options = [record_type, "+dnssec", "+timeout=2"]
        command = [*self.entrance, find("kdig"), *server, name, *options]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def wait_for_record(self, name: str, record: str) -> None:
        """Wait until the resolver has a record that was published."""
        wait_until(lambda: record.rsplit(maxsplit=1)[-1].upper() in self.ask(name), f"record of {name} in the resolver")

    def wait_for_name(self, name: str) -> None:
        """Wait until the resolver no longer takes a name for absent: it may have a proof for a range of names."""

        def is_known() -> bool:
            answer = self.ask(name, "TXT")
            return "SERVFAIL" in answer or ("NOERROR" in answer and "ANSWER: 0" not in answer)

        wait_until(is_known, f"records of {name} in the resolver")

    def device(self, label: str, zone: str = SECURE) -> Device:
        """Return a new device that has no key yet; its name is different from that of any other."""
        number = next(self._counter)
        name = f"{label}-{number}._device.{zone}"
        crypto_path = self.directory / f"{label}-{number}" / "identity"
        crypto_path.mkdir(parents=True)
        settings = {
            "IDENTITY_NAME": name,
            "CRYPTO_PATH": str(crypto_path),
            "DATA_PATH": str(crypto_path.parent / "data"),
            "MQTT_HOST": self.mosquitto.host,
            "MQTT_PORT": str(self.mosquitto.port),
            "DNS_RESOLVER": self.unbound.address,
        }
        return Device(name, crypto_path, settings, self.entrance)

    def device_with_key(self, label: str, zone: str = SECURE, settings: Mapping[str, str] = _NO_SETTINGS) -> Device:
        """Return a new device with a key and a self-signed certificate, not published."""
        device = self.device(label, zone).with_settings(**settings)
        result = device.run(CREATE_SELFSIGNED_ID)
        assert result.status == 0, result
        return device

    def published_device(
        self, label: str, zone: str = SECURE, ttl: int = 60, settings: Mapping[str, str] = _NO_SETTINGS
    ) -> Device:
        """Return a new device whose record is in DNS.

        Args:
            label: The first part of its name.
            zone: The zone of its name.
            ttl: Seconds for which its record may be cached.
            settings: Environment variables of its programs that differ from the usual.
        """
        device = self.device_with_key(label, zone, settings)
        self.knot.add_tlsa(device.name, device.tlsa_record(), ttl)
        return device

    def pinned(self, device: Device, *anchors: str) -> Device:
        """Return the device with its own trust anchors, given as zone-file lines, instead of a trusted resolver."""
        path = device.crypto_path.parent / "anchors"
        path.write_text("".join(f"{anchor}\n" for anchor in anchors))
        return device.with_settings(DNSSEC_TRUST_ANCHORS=str(path))
