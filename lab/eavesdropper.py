"""A client that reads every message to a device, as the broker and each of its clients can."""

import queue
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from idlib.errors import TransportError
from idlib.settings import ServerAddress

_AT_LEAST_ONCE: Final = 1
_SECONDS: Final = 10


class Eavesdropper:
    """A session that subscribes to one topic when it is entered, and may publish there too.

    Args:
        broker: The broker's address.
        topic: The topic, without wildcards.
    """

    def __init__(self, broker: ServerAddress, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._payloads: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, _AT_LEAST_ONCE)
        self._client.on_subscribe = lambda *_: self._subscribed.put(None)
        self._client.on_message = self._keep

    def __enter__(self) -> Self:
        try:
            self._client.connect(self._broker.address, self._broker.port)
            self._client.loop_start()
            self._subscribed.get(timeout=_SECONDS)
        except (OSError, queue.Empty) as error:
            self._client.loop_stop()
            raise TransportError(f"the broker on {self._broker} did not accept a subscription") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def next_payload(self) -> bytes:
        """Return the next payload that was published, waiting for it.

        Raises:
            TransportError: None came within 10 seconds.
        """
        try:
            return self._payloads.get(timeout=_SECONDS)
        except queue.Empty as error:
            raise TransportError(f"nothing was published to {self._topic} within {_SECONDS} s") from error

    def publish(self, payload: bytes) -> None:
        """Publish a payload, as any client can, and wait for the acknowledgement.

        Raises:
            TransportError: None came within 10 seconds.
        """
        published = self._client.publish(self._topic, payload, _AT_LEAST_ONCE)
        with suppress(RuntimeError):
            published.wait_for_publish(_SECONDS)
        if published.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or not published.is_published():
            raise TransportError(f"the broker did not acknowledge a message to {self._topic} within {_SECONDS} s")

    def _keep(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._payloads.put(bytes(message.payload))
