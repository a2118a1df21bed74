"""A client of the local broker with a session that outlives connections; it records all that is published there."""

import json
import time
from dataclasses import dataclass
from typing import Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from testbed.daemons.mosquitto import Mosquitto
from testbed.lab import wait_until

_RECONNECT_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message at the local broker.

    Args:
        topic: Its topic.
        payload: What was published.
    """

    topic: str
    payload: bytes

    def sender_and_text(self) -> tuple[str, str]:
        """Return the sender in the topic and the text, of an arrival on `in/`.

        Raises:
            ValueError: It is not the object of a message of that sender.
        """
        message = json.loads(self.payload)
        sender = self.topic.rpartition("/")[2]
        if message["sender"] != sender:
            raise ValueError(f"a message of {message['sender']} is on the topic {self.topic}")
        return sender, message["message"]


class HomeListener:
    """Records in a separate thread what is published below a prefix.

    Args:
        broker: The broker.
        prefix: The first level of the topics.
    """

    def __init__(self, broker: Mosquitto, prefix: str) -> None:
        self._arrivals: list[Arrival] = []
        self._topics = f"{prefix}/#"
        self._is_subscribed = False
        # Without a clean session, the broker keeps for it what is published while the broker or the connection is away.
        self._client = Client(
            CallbackAPIVersion.VERSION2, "listener", clean_session=False, protocol=MQTTProtocolVersion.MQTTv311
        )
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(_RECONNECT_SECONDS, _RECONNECT_SECONDS)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        wait_until(lambda: self._is_subscribed, "subscription at the local broker")

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """What has arrived so far, in order; copies are not left out."""
        return tuple(self._arrivals)

    def wait_for_silence(self, seconds: float, timeout: float) -> None:
        """Return when nothing has arrived for some time, or the time is up.

        Args:
            seconds: For how long nothing has arrived.
            timeout: How long to wait at most, in seconds.
        """
        deadline = time.monotonic() + timeout
        number = -1
        while number != len(self._arrivals) and time.monotonic() < deadline:
            number = len(self._arrivals)
            time.sleep(seconds)

    def close(self) -> None:
        """Record nothing more."""
        self._client.disconnect()
        self._client.loop_stop()
        # Without this cycle the client ends now, and closes its sockets itself.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None

    def _on_connect(self, *_: object) -> None:
        self._client.subscribe(self._topics, qos=1)

    def _on_subscribe(self, *_: object) -> None:
        self._is_subscribed = True

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._arrivals.append(Arrival(message.topic, bytes(message.payload)))
