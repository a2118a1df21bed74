"""What needs no server; the rest is tested with real ones (tests/integration/test_publish.py)."""

import socket

import dns.tsig
import pytest

from idlib.errors import PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.dynamic_update import DynamicUpdate
from idlib.publishing.record_types import tlsa_place
from idlib.publishing.zone import NameServer, Zone
from idlib.settings import ServerAddress

NAME = IdentityName("alice._device.example.test")
SERVERS = (NameServer("ns.example.test", ServerAddress("127.0.0.1")),)
ZONE = Zone("example.test", "ns.example.test", 1800, SERVERS, ())
KEY = dns.tsig.Key("alice-key", "bm90IHNlY3JldCBhdCBhbGw=", "hmac-sha256")


def closed_port() -> ServerAddress:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return ServerAddress("127.0.0.1", probe.getsockname()[1])


def test_each_address_that_is_not_reached_is_named() -> None:
    addresses = [closed_port(), closed_port()]
    update = DynamicUpdate(tlsa_place(NAME), ZONE, addresses, KEY)
    for act in (
        update.check,
        lambda: update.apply(Change(NAME, PublishedSet.of(0, ()), PublishedSet.of(300, [bytes(9)]))),
    ):
        with pytest.raises(PublishingError) as caught:
            act()
        assert caught.value.fact == "no update server was reached: " + "; ".join(
            f"{address} cannot be reached: Connection refused" for address in addresses
        )
        assert caught.value.hint == "set DNS_UPDATE_SERVER to the right server"
    with pytest.raises(PublishingError, match=r"the update server does not answer for alice\._device") as caught:
        update.read()
    assert all(str(address) in caught.value.fact for address in addresses)
