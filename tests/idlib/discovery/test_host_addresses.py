import socket
import threading
import time

import pytest

from idlib.discovery.channel import ChannelError
from idlib.discovery.host_addresses import HostAddresses
from idlib.settings import HttpsResolver

NAMED = HttpsResolver("dns.example.test")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the system's resolver answers, which a test may change; nothing is a failure."""
    known: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, object, object, str, tuple[str, int]]]:
        assert (host, port) == (NAMED.host, NAMED.port)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(None, None, None, "", (address, port)) for address in known]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


class Network:
    def __init__(self, *reachable: str) -> None:
        self.reachable = list(reachable)
        self.tried: list[str] = []

    def connect(self, address: str, deadline: float) -> str:
        assert deadline > time.monotonic()
        self.tried.append(address)
        if address not in self.reachable:
            raise ChannelError(f"cannot be reached at {address}", "check")
        return address


def soon() -> float:
    return time.monotonic() + 20


@pytest.mark.parametrize(
    ("resolver", "address"),
    [
        (HttpsResolver("192.0.2.1"), "192.0.2.1"),
        (HttpsResolver("2001:db8::1"), "2001:db8::1"),
        (HttpsResolver("dns.example.test", address="192.0.2.1"), "192.0.2.1"),
    ],
    ids=str,
)
def test_an_address_that_is_given_is_used_without_a_look_up(
    monkeypatch: pytest.MonkeyPatch, resolver: HttpsResolver, address: str
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert HostAddresses(resolver).try_each(Network(address).connect, soon()) == address


def test_addresses_are_tried_until_one_works_and_that_is_remembered(hosts: list[str]) -> None:
    hosts[:] = ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"]
    addresses, network = HostAddresses(NAMED), Network("192.0.2.2", "192.0.2.3")
    assert addresses.try_each(network.connect, soon()) == "192.0.2.2"
    hosts.clear()
    assert addresses.try_each(network.connect, soon()) == "192.0.2.2"
    assert network.tried == ["192.0.2.1", "192.0.2.2", "192.0.2.2"]


def test_a_host_that_has_moved_is_found_again(hosts: list[str]) -> None:
    hosts[:] = ["192.0.2.1"]
    addresses, network = HostAddresses(NAMED), Network("192.0.2.1")
    addresses.try_each(network.connect, soon())
    hosts[:] = network.reachable[:] = ["192.0.2.2"]
    assert addresses.try_each(network.connect, soon()) == "192.0.2.2"


def test_the_first_failure_is_reported_and_few_addresses_are_tried(hosts: list[str]) -> None:
    hosts[:] = [f"192.0.2.{number}" for number in range(9)]
    network = Network()
    with pytest.raises(ChannelError, match=r"at 192\.0\.2\.0"):
        HostAddresses(NAMED).try_each(network.connect, soon())
    assert len(network.tried) == 4


def test_a_host_without_an_address_is_reported(hosts: list[str]) -> None:
    assert not hosts
    with pytest.raises(ChannelError) as caught:
        HostAddresses(NAMED).try_each(Network().connect, soon())
    assert caught.value.fault == "has no address that the system's resolver finds: Name or service not known"
    assert "as in https://dns.example.test/dns-query#192.0.2.1" in caught.value.hint


def test_a_silent_system_resolver_does_not_stop_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    ended = threading.Event()

    def wait(*_: object, **__: object) -> list[object]:
        over.wait(20)
        ended.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    with pytest.raises(ChannelError, match="has no address that the system's resolver finds in time"):
        HostAddresses(NAMED).try_each(Network().connect, time.monotonic() + 0.1)
    over.set()
    assert ended.wait(20)
