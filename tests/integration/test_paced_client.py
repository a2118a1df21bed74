"""The client that strangers use: the broker has every message that it reports as acknowledged."""

import time

import pytest

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import Lab
from testbed.messages import BrokerClient
from testbed.paced_client import PacedClient, Publication


def test_everything_arrives_in_order_and_at_the_rate(lab: Lab, own_mosquitto: Mosquitto) -> None:
    device = lab.device("target")
    listener = BrokerClient(own_mosquitto)
    listener.listen(device)
    publications = [Publication(str(number).encode()) for number in range(200)]
    begun_at = time.monotonic()
    with PacedClient(own_mosquitto.port) as client:
        client.publish_all(device.name, publications[:50], rate=100)
        assert time.monotonic() - begun_at >= 0.4
        client.publish_all(device.name, publications[50:])
    assert [listener.next_payload() for _ in publications] == [one.payload for one in publications]
    listener.close()


def test_a_broker_that_is_gone_is_an_error(own_mosquitto: Mosquitto) -> None:
    with PacedClient(own_mosquitto.port) as client:
        own_mosquitto.kill()
        with pytest.raises((ConnectionError, TimeoutError)):
            client.publish_all("target", [Publication(b"x")] * 1000)
    with pytest.raises((ConnectionError, TimeoutError)):
        PacedClient(own_mosquitto.port)
