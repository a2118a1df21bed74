"""The local broker is not the public one, and nothing reaches it over the Internet in the clear."""

import ipaddress
import socket
import ssl

import pytest

from idlib.errors import ConfigurationError, TransportError
from idlib.local_broker.separation import (
    PUBLIC_BROKERS,
    Route,
    check_is_another_broker,
    check_names,
    route_of,
)
from idlib.settings import MqttVersion
from idlib.transport import Broker

OWN = {4: "192.168.1.9", 6: "2600:1::9"}
HINT = "set LOCAL_MQTT_URL to a broker of your own"


def at(host: str, port: int = 1883, *, is_protected: bool = False) -> Broker:
    tls = ssl.create_default_context() if is_protected else None
    return Broker(host, port, MqttVersion.V5, tls, "a" if is_protected else None, "b" if is_protected else None)


def to(peer: str, port: int = 1883) -> Route:
    address = ipaddress.ip_address(peer)
    return Route(ipaddress.ip_address(OWN[address.version]), address, port)


@pytest.mark.parametrize(
    ("local", "public"),
    [
        ("127.0.0.1", "localhost"),
        ("LOCALHOST", "::1"),
        ("broker.example.", "Broker.EXAMPLE"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:DB8:0::1"),
    ],
)
def test_the_same_broker_is_refused_however_its_name_is_written(local: str, public: str) -> None:
    with pytest.raises(ConfigurationError, match=f"through which devices reach each other.*; {HINT}"):
        check_names(at(local), at(public))
    check_names(at(local, 1884), at(public))


@pytest.mark.parametrize("name", [*sorted(PUBLIC_BROKERS), "eu.test.mosquitto.org", "TEST.mosquitto.org."])
def test_a_broker_that_anyone_may_use_is_refused_at_any_port(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"which anyone may use: .*; {HINT}"):
        check_names(at(name, 8886, is_protected=True), at("broker.example"))


def test_a_name_that_ends_like_a_public_one_is_another() -> None:
    check_names(at("nottest.mosquitto.org"), at("broker.example"))


@pytest.mark.parametrize(
    ("local", "public"),
    [
        (to("192.168.1.5"), at("192.168.1.5")),
        (to("8.8.8.8"), at("8.8.8.8", 8883)),
        (to("2600:2::5", 443), at("2600:2::5", 8883)),
    ],
)
def test_an_address_of_the_public_broker_is_refused(local: Route, public: Broker) -> None:
    with pytest.raises(TransportError, match=HINT):
        check_is_another_broker(at("home", local.port, is_protected=True), public, local)


def test_a_machine_at_home_may_have_both_brokers_at_different_ports() -> None:
    check_is_another_broker(at("home", 1884), at("192.168.1.5"), to("192.168.1.5", 1884))


@pytest.mark.parametrize(
    "peer", ["192.168.1.5", "10.0.0.5", "127.0.0.1", "100.64.0.5", "fd00::5", "fe80::5", "2600:1::5"]
)
def test_a_broker_at_home_needs_neither_tls_nor_a_login(peer: str) -> None:
    check_is_another_broker(at("home"), at("192.0.2.77"), to(peer))


@pytest.mark.parametrize("peer", ["8.8.8.8", "2600:2::5"])
def test_a_broker_in_the_internet_needs_tls_and_a_login(peer: str) -> None:
    check_is_another_broker(at("home", is_protected=True), at("192.0.2.77"), to(peer))
    with pytest.raises(
        TransportError, match="is outside this device's network, and the connection has no TLS; use mqtts"
    ):
        check_is_another_broker(at("home"), at("192.0.2.77"), to(peer))
    without_login = Broker("home", 8883, MqttVersion.V5, ssl.create_default_context())
    with pytest.raises(TransportError, match="has no login; use mqtts"):
        check_is_another_broker(without_login, at("192.0.2.77"), to(peer))


def test_a_public_broker_that_cannot_be_looked_up_now_stops_nothing() -> None:
    check_is_another_broker(at("home"), at("broker.invalid"), to("192.168.1.5"))


def test_the_ends_of_a_connection_are_read_and_it_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client, server.accept()[0] as accepted:
            route = route_of(client.fileno())
            assert (str(route.own), str(route.peer), route.port) == ("127.0.0.1", *address)
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"
