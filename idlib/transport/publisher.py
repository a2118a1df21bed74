"""Publishing, with the broker's acknowledgement of each message, through a connection that breaks."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, MQTTMessageInfo
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from idlib.errors import MessageError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.settings import MqttVersion
from idlib.transport.broker import Broker
from idlib.transport.connection import (
    CONNECT_TIMEOUT_SECONDS,
    KEEPALIVE_SECONDS,
    QOS_AT_LEAST_ONCE,
    new_client,
    new_client_id,
)
from idlib.transport.hints import hint_for_error, hint_for_reason, hint_for_silence

_LOG = logging.getLogger(__name__)

_LONGEST_RECONNECT_SECONDS: Final = 8
# What the MQTT library sends at a time.
MAX_INFLIGHT: Final = 20
# MQTT 5, section 3.4.2.1. No failure by its number, and yet the message is gone.
_NO_MATCHING_SUBSCRIBERS: Final = 16
# What a PUBLISH packet has beside topic and payload, at most (MQTT 5, section 3.3): type and length 5, length of the
# topic 2, number 2, properties 6.
_PACKET_OVERHEAD_OCTETS: Final = 15


@dataclass(frozen=True, slots=True)
class Publication:
    """A message handed to the session, acknowledged or not yet.

    Args:
        topic: Where it is published.
        info: What the MQTT library knows of it.
    """

    topic: str
    info: MQTTMessageInfo = field(repr=False)


class Publisher:
    """A session at the broker for publishing, used as a context manager.

    What is not acknowledged when the connection is lost is sent once more after a reconnect, by itself.

    Args:
        broker: Where to publish.
        timeout: How long the broker may take to accept the connection, and to acknowledge, in seconds.
    """

    def __init__(self, broker: Broker, timeout: float) -> None:
        self._broker = broker
        self._timeout = timeout
        self._connected = threading.Event()
        # What the broker says of messages that nobody will get.
        self._dropped: dict[int, ReasonCode] = {}
        self._connect_reason: ReasonCode | None = None
        self._window = MAX_INFLIGHT
        self._maximum_packet_size: int | None = None
        self._topic: str | None = None
        self._subscribed = threading.Event()
        self._subscribe_reason: ReasonCode | None = None
        self._client = new_client(broker, new_client_id(), manual_ack=False)
        self._client.reconnect_delay_set(1, _LONGEST_RECONNECT_SECONDS)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            TransportError: The broker was not reached, refused, or did not answer in time.
        """
        self._client.connect_timeout = min(CONNECT_TIMEOUT_SECONDS, self._timeout)
        try:
            _connect_for_publishing(self._client, self._broker)
        except OSError as error:
            raise TransportError(
                f"the broker {self._broker} was not reached: {error}", hint_for_error(self._broker, error)
            ) from error
        self._client.loop_start()
        answered = self._connected.wait(self._timeout)
        if not answered or self._connect_reason is None or self._connect_reason.is_failure:
            self._client.loop_stop()
            said = self._connect_reason if answered else f"no answer within {self._timeout:g} s"
            reason = self._connect_reason
            raise TransportError(
                f"the broker {self._broker} did not accept the connection: {said}",
                hint_for_silence(self._broker) if reason is None else hint_for_reason(self._broker, reason.value),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def window(self) -> int:
        """How many messages may be unacknowledged at a time."""
        return self._window

    def listen(self, topic: str, hear: Callable[[bytes], None]) -> None:
        """Have handed over what is published under a topic from now on; what comes without a connection is missed.

        Args:
            topic: What to subscribe to.
            hear: Called with each payload from the thread that runs the session; must not block.

        Raises:
            TransportError: The broker refused, or did not answer in time.
        """
        self._topic = topic
        self._client.on_message = lambda _client, _data, message: hear(bytes(message.payload))
        self._client.subscribe(topic, QOS_AT_LEAST_ONCE)
        answered = self._subscribed.wait(self._timeout)
        if not answered or self._subscribe_reason is None or self._subscribe_reason.is_failure:
            said = self._subscribe_reason if answered else f"no answer within {self._timeout:g} s"
            raise TransportError(f"the broker {self._broker} did not accept a subscription to {topic}: {said}")

    def publish(self, topic: str, payload: bytes, lifetime: int) -> Publication:
        """Hand a message to the session, without waiting for the broker.

        Args:
            topic: Where to publish.
            payload: What to publish.
            lifetime: After how many seconds the broker may drop it; MQTT 5 alone carries that.

        Raises:
            MessageError: The broker has said that it takes no packet of that size.
        """
        self._check_size(topic, payload)
        properties = None
        if self._broker.version is MqttVersion.V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # as paho has it
            properties.MessageExpiryInterval = lifetime
        info = self._client.publish(topic, payload, QOS_AT_LEAST_ONCE, retain=False, properties=properties)
        if info.rc == MQTT_ERR_NO_CONN:
            # The library keeps it and sends it when it is connected again, but would call waiting for it an error.
            info.rc = MQTT_ERR_SUCCESS
        return Publication(topic, info)

    def _check_size(self, topic: str, payload: bytes) -> None:
        # The broker would end the connection, with all that is under way (MQTT 5, section 3.2.2.3.6).
        size, limit = len(topic) + len(payload) + _PACKET_OVERHEAD_OCTETS, self._maximum_packet_size
        if limit is not None and size > limit:
            raise MessageError(
                f"the message is too large: {size} octets as a packet,"
                f" and the limit of the broker {self._broker} is {limit}",
                "shorten it, or use another broker",
            )

    def is_answered(self, publication: Publication) -> bool:
        """Return whether the broker has said by now what becomes of a message.

        Args:
            publication: From `publish`.
        """
        return publication.info.rc == MQTT_ERR_SUCCESS and publication.info.is_published()

    def is_acknowledged(self, publication: Publication) -> bool:
        """Return whether the broker has acknowledged a message by now, and has somebody to give it to.

        Args:
            publication: From `publish`.
        """
        return self.is_answered(publication) and publication.info.mid not in self._dropped

    def wait(self, publication: Publication) -> None:
        """Return when the broker has acknowledged the message.

        Args:
            publication: From `publish`.

        Raises:
            RefusedMessageError: It refused the message.
            NoSubscriberError: It has nobody to give the message to; MQTT 5 alone, and not every broker, says so.
            TransportError: It did not acknowledge it in time.
        """
        info = publication.info
        try:
            info.wait_for_publish(self._timeout)
        except (RuntimeError, ValueError) as error:
            raise TransportError(f"the broker {self._broker} did not take the message: {error}") from error
        if not info.is_published():
            raise TransportError(
                f"the broker {self._broker} did not acknowledge the message within {self._timeout:g} s",
                "it may or may not be delivered; send it again to be sure",
            )
        reason = self._dropped.get(info.mid)
        if reason is None:
            return
        if reason.is_failure:
            raise RefusedMessageError(f"the broker {self._broker} refuses the message: {reason}")
        raise NoSubscriberError(
            f"at the broker {self._broker} nobody has subscribed to {publication.topic}",
            "start its receiver once, and the broker keeps messages for it from then on",
        )

    def _on_connect(self, client: Client, _: Any, __: Any, reason: ReasonCode, properties: Properties | None) -> None:
        allowed = getattr(properties, "ReceiveMaximum", None)
        if allowed is not None:
            # To send more at a time is an error that ends the connection (MQTT 5, section 4.9).
            self._window = min(allowed, MAX_INFLIGHT)
        self._maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self._connect_reason = reason
        self._connected.set()
        if self._topic is not None and not reason.is_failure:
            client.subscribe(self._topic, QOS_AT_LEAST_ONCE)

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, ____: Properties | None) -> None:
        if reason.is_failure and self._connected.is_set():
            _LOG.warning("The connection to the broker %s is lost: %s", self._broker, reason)

    def _on_subscribe(self, _: Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Properties | None) -> None:
        self._subscribe_reason = reasons[0]
        self._subscribed.set()

    def _on_publish(self, _: Client, __: Any, packet_id: int, reason: ReasonCode, ___: Properties) -> None:
        if reason.is_failure or reason.value == _NO_MATCHING_SUBSCRIBERS:
            self._dropped[packet_id] = reason
        else:
            # Numbers are used again.
            self._dropped.pop(packet_id, None)


def _connect_for_publishing(client: Client, broker: Broker) -> None:
    if broker.version is MqttVersion.V311:
        client.connect(broker.host, broker.port, KEEPALIVE_SECONDS)
    else:
        client.connect(broker.host, broker.port, KEEPALIVE_SECONDS, clean_start=True)
