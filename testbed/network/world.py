"""A device in a network of its own, and beyond its router a lab whose servers can all be reached at TCP port 443."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from testbed.daemons.haproxy import Front, Haproxy
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon
from testbed.daemons.proxies import Microsocks, Tinyproxy
from testbed.lab import Lab, open_lab
from testbed.network.router import ROUTER, Router
from testbed.programs import Device
from testbed.server_certificates import ServerAuthority

# Each server has an address of its own, because all use port 443 (RFC 5737 names the prefix).
WSS_BROKER: Final = "198.51.100.1"
MQTTS_BROKER: Final = "198.51.100.2"
SOCKS_PROXY: Final = "198.51.100.3"
HTTP_PROXY: Final = "198.51.100.4"
DOT_RESOLVER: Final = "198.51.100.5"
DOH_RESOLVER: Final = "198.51.100.6"
PORTAL: Final = "198.51.100.7"
LIAR: Final = "198.51.100.8"
# For servers that a test starts itself.
SPARE: Final = tuple(f"198.51.100.{number}" for number in range(101, 121))
_ADDRESSES: Final = (
    WSS_BROKER,
    MQTTS_BROKER,
    SOCKS_PROXY,
    HTTP_PROXY,
    DOT_RESOLVER,
    DOH_RESOLVER,
    PORTAL,
    LIAR,
    *SPARE,
)
BROKER_NAME: Final = "broker.example.net"
RESOLVER_NAME: Final = "resolver.example.net"
# The name of the public broker that the programs use by default leads to the broker of the lab.
_HOSTS: Final = {
    "broker.hivemq.com": WSS_BROKER,
    BROKER_NAME: WSS_BROKER,
    RESOLVER_NAME: DOH_RESOLVER,
}
_DOT_PORT: Final = 853
_WSS_PORT: Final = 8443
_BROKER: Final = """\
listener 1883 {address}
allow_anonymous true
listener {port} {loopback}
socket_domain ipv4
protocol websockets
certfile {pem}
keyfile {pem}
allow_anonymous true
"""
_RESOLVER: Final = """\
server:
    interface: {loopback}@{dot_port}
    tls-port: {dot_port}
    interface: {doh}@443
    https-port: 443
    tls-service-pem: "{pem}"
    tls-service-key: "{pem}"
    access-control: 192.0.2.0/24 allow
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the broker that leads through port 443.

    Args:
        name: Its name.
        settings: What a device needs to use it.
        server: What stands at port 443.
    """

    name: str
    settings: Mapping[str, str]
    server: Daemon


@dataclass(frozen=True, slots=True)
class NetworkWorld:
    """The lab beyond the router, and what is in between.

    Args:
        lab: The broker, the name server, the resolver and the devices beyond the router.
        inside: The network namespace behind the router.
        outside: The one of the lab.
        router: The router.
        wss: What leads to the broker's port for WebSockets.
        mqtts: What ends TLS for the broker, if the client asks for MQTT with ALPN.
        socks: A proxy.
        http: Another one.
        authority: The CA that has issued the certificate of the servers.
        pem: The file with that certificate, which is for all addresses, and its key.
    """

    lab: Lab
    inside: Namespace
    outside: Namespace
    router: Router
    wss: Haproxy
    mqtts: Haproxy
    socks: Microsocks
    http: Tinyproxy
    authority: ServerAuthority
    pem: Path

    def ways(self) -> tuple[Way, ...]:
        """Return the ways to the broker that lead through port 443."""
        own = {"MQTT_CA_FILE": str(self.authority.file)}
        plain = {"MQTT_URL": f"mqtt://{BROKER_NAME}"}
        return (
            Way("wss", {"MQTT_URL": f"wss://{WSS_BROKER}/mqtt", **own}, self.wss),
            Way("alpn", {"MQTT_URL": f"mqtts://{MQTTS_BROKER}:443", "MQTT_ALPN": "mqtt", **own}, self.mqtts),
            Way("socks5", {"MQTT_PROXY": f"socks5://{SOCKS_PROXY}:443", **plain}, self.socks),
            Way("http", {"MQTT_PROXY": f"http://{HTTP_PROXY}:443", **plain}, self.http),
        )

    def move_inside(self, device: Device) -> Device:
        """Return a device of the lab behind the router, without any setting for the broker and the resolver."""
        for setting in ("MQTT_HOST", "MQTT_PORT", "DNS_RESOLVER"):
            device = device.without_setting(setting)
        return replace(device, entrance=self.inside.entrance)


def certificate_with_key(authority: ServerAuthority, *names: str) -> Path:
    """Return a file with a new certificate and its key.

    Args:
        authority: The CA that issues it.
        names: The host names and addresses that it is for.
    """
    certificate, key = authority.issue(*names)
    path = certificate.with_suffix(".pem")
    path.write_bytes(certificate.read_bytes() + key.read_bytes())
    return path


@contextlib.contextmanager
def open_network(directory: Path) -> Iterator[NetworkWorld]:
    """Start everything; the router lets nothing leave at first.

    Args:
        directory: An existing, empty directory.
    """
    places = {name: directory / name for name in ("inside", "outside", "lab", "proxies", "authority")}
    for place in places.values():
        place.mkdir()
    authority = ServerAuthority(places["authority"])
    pem = certificate_with_key(authority, *_ADDRESSES, BROKER_NAME, RESOLVER_NAME)
    fronts = {
        "wss": Front(WSS_BROKER, f"{LOOPBACK}:{_WSS_PORT}"),
        "mqtts": Front(MQTTS_BROKER, f"{LOOPBACK}:1883", pem=pem, alpn="mqtt"),
        "dot": Front(DOT_RESOLVER, f"{LOOPBACK}:{_DOT_PORT}"),
    }
    for name in fronts:
        places[name] = directory / name
        places[name].mkdir()
    with contextlib.ExitStack() as stack:
        outside = stack.enter_context(Namespace(places["outside"], hosts=_HOSTS))
        inside = stack.enter_context(Namespace(places["inside"], nameserver=ROUTER, hosts=_HOSTS, inside=outside))
        router = Router(inside, outside, _ADDRESSES)
        resolver_extra = _RESOLVER.format(loopback=LOOPBACK, doh=DOH_RESOLVER, dot_port=_DOT_PORT, pem=pem)
        broker_extra = _BROKER.format(address=WSS_BROKER, loopback=LOOPBACK, port=_WSS_PORT, pem=pem)
        lab = stack.enter_context(
            open_lab(places["lab"], outside, broker_extra=broker_extra, resolver_extra=resolver_extra)
        )
        started = {name: stack.enter_context(Haproxy(places[name], [front], outside)) for name, front in fronts.items()}
        socks = stack.enter_context(Microsocks(places["proxies"], SOCKS_PROXY, 443, namespace=outside))
        http = stack.enter_context(Tinyproxy(places["proxies"], HTTP_PROXY, 443, namespace=outside))
        yield NetworkWorld(lab, inside, outside, router, started["wss"], started["mqtts"], socks, http, authority, pem)
