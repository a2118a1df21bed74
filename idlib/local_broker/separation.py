"""Makes sure that the local broker is not the public one, and that what it gets does not cross the Internet in clear.

Whoever may use the local broker reads every message there, and can speak as this device.
"""

import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Final

from idlib.errors import ConfigurationError, TransportError
from idlib.transport import Broker
from idlib.transport.broker import is_on_this_machine

_HINT: Final = "set LOCAL_MQTT_URL to a broker of your own"
# Brokers that anyone may use, and names below them.
PUBLIC_BROKERS: Final = frozenset(
    {
        "broker-cn.emqx.io",
        "broker.emqx.io",
        "broker.hivemq.com",
        "broker.mqttdashboard.com",
        "iot.eclipse.org",
        "mqtt.eclipse.org",
        "mqtt.eclipseprojects.io",
        "mqtt.fluux.io",
        "public-mqtt-broker.bevywise.com",
        "public.cloud.shiftr.io",
        "public.mqtthq.com",
        "test.mosquitto.org",
    }
)
_LINK_BITS: Final = 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Route:
    """The two ends of a connection.

    Args:
        own: Our address.
        peer: The broker's address.
        port: The broker's port.
    """

    own: Address
    peer: Address
    port: int

    @property
    def is_at_home(self) -> bool:
        """Whether the broker is on this machine or in its own network, which the Internet does not reach."""
        if not self.peer.is_global:
            return True
        is_of_version_6 = isinstance(self.peer, ipaddress.IPv6Address) and isinstance(self.own, ipaddress.IPv6Address)
        return is_of_version_6 and int(self.peer) >> _LINK_BITS == int(self.own) >> _LINK_BITS


def check_names(local: Broker, public: Broker) -> None:
    """Check what the settings say about the two brokers.

    Args:
        local: The local broker.
        public: The broker through which devices reach each other.

    Raises:
        ConfigurationError: They are the same, or the local one is known to be open to anyone.
    """
    host = _normalized(local.host)
    if any(host == name or host.endswith(f".{name}") for name in PUBLIC_BROKERS):
        raise ConfigurationError(
            f"LOCAL_MQTT_URL names {local.host}, which anyone may use: strangers would read every message there, and"
            f" could send messages as this device; {_HINT}"
        )
    if local.port == public.port and host == _normalized(public.host):
        raise ConfigurationError(
            f"LOCAL_MQTT_URL names the broker {public}, through which devices reach each other: everyone there would"
            f" read every message, and could send messages as this device; {_HINT}"
        )


def check_is_another_broker(local: Broker, public: Broker, route: Route) -> None:
    """Check a connection before anything is sent over it, because several names may belong to one broker.

    At an address in the Internet, any port counts as the same broker; in a home, several brokers may share one machine.

    Args:
        local: The local broker.
        public: The broker through which devices reach each other.
        route: The connection to the local broker.

    Raises:
        TransportError: It leads to the public broker; or it leaves the network of this device without TLS or a login.
    """
    for address, port in _addresses_of(public):
        if address == route.peer and (port == route.port or not route.is_at_home):
            raise TransportError(
                f"the local broker {local} has the address of the broker {public}, through which devices reach each"
                " other",
                _HINT,
            )
    if not route.is_at_home and (local.tls is None or local.password is None):
        raise TransportError(
            f"the local broker {local} is outside this device's network, and the connection has"
            f" {'no TLS' if local.tls is None else 'no login'}",
            "use mqtts:// or wss:// with a user name in LOCAL_MQTT_URL, and set LOCAL_MQTT_PASSWORD_FILE",
        )


def route_of(descriptor: int) -> Route:
    """Return the two ends of a connection.

    Args:
        descriptor: The file descriptor of its socket; it stays open.

    Raises:
        OSError: The connection is lost already.
    """
    # A copy, because the object that is closed must not be the one that is in use.
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        own, peer = copy.getsockname(), copy.getpeername()
    return Route(_address(own[0]), _address(peer[0]), peer[1])


def _addresses_of(broker: Broker) -> list[tuple[Address, int]]:
    """Return the addresses of a broker; none if they cannot be looked up now, because then we are not connected.

    Behind a proxy they are not looked up either: only the proxy may learn the broker's name, and knows its address.
    """
    if broker.proxy is not None:
        return []
    with contextlib.suppress(OSError, ValueError):
        found = socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM)
        return [(_address(str(place[0])), broker.port) for *_, place in found]
    return []


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _normalized(host: str) -> str:
    if is_on_this_machine(host):
        return "localhost"
    with contextlib.suppress(ValueError):
        return str(_address(host))
    return host.rstrip(".").lower()
