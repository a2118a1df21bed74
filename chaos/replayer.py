"""An eavesdropper that publishes messages again that it has received."""

import contextlib
import random
import time
from typing import Final

from paho.mqtt.enums import MQTTProtocolVersion

from testbed.daemons.mosquitto import Mosquitto
from testbed.messages import BrokerClient
from testbed.programs import Device

# A part of all messages is junk of strangers.
_REPEATED_AT_ONCE: Final = 10


class Replayer:
    """Receives and repeats messages to one device.

    Args:
        broker: The broker, without the proxy.
        recipient: The device.
        generator: Decides what it repeats.
    """

    def __init__(self, broker: Mosquitto, recipient: Device, generator: random.Random) -> None:
        self._broker = broker
        self._recipient = recipient
        self._generator = generator
        self._heard: list[bytes] = []
        self.number_replayed = 0

    def listen_and_repeat(self, seconds: float) -> None:
        """Listen for some time, then publish a few of all messages received so far."""
        with contextlib.suppress(OSError):
            client = BrokerClient(self._broker, MQTTProtocolVersion.MQTTv311)
            try:
                client.listen(self._recipient)
                time.sleep(seconds)
                self._heard += client.payloads_so_far()
                for payload in self._generator.sample(self._heard, min(_REPEATED_AT_ONCE, len(self._heard))):
                    client.publish(self._recipient, payload)
                    self.number_replayed += 1
            finally:
                client.close()
