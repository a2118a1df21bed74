"""Makes connections to the broker, and explains why they fail or end."""

import secrets
import ssl
import time
from dataclasses import dataclass
from typing import Final

from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from idlib.errors import TransportError
from idlib.settings import MqttVersion
from idlib.transport.broker import Broker
from idlib.transport.client import KEEPALIVE_SECONDS, Handlers, PacketClient, UnreadablePackets, reason_name, words_of
from idlib.transport.dialing import DialError, dial
from idlib.transport.hints import hint_for_alert, hint_for_error, hint_for_reason
from idlib.transport.packets import MAX_PACKET_BYTES, OVERHEAD_BYTES

QOS_AT_LEAST_ONCE: Final = 1
CONNECT_TIMEOUT_SECONDS: Final = 5.0
# How long the thread of a connection waits for the broker before it looks at anything else.
LOOP_SECONDS: Final = 0.25
# MQTT 5, section 3.14.2.1.
SESSION_TAKEN_OVER: Final = 142
# MQTT 5, section 3.9.3.
NO_SHARED_SUBSCRIPTIONS: Final = 158
# For what was sent last.
LEAVE_SECONDS: Final = 1.0
_SHORT_LOOP_SECONDS: Final = 0.05
# A SUBSCRIBE to one topic (MQTT 5, section 3.8): type and length 3, packet identifier 2, properties 1, length of the
# topic 2, options 1.
_SUBSCRIBE_OVERHEAD_BYTES: Final = 9


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the broker refused something, or why a connection ended.

    Args:
        fact: What is known.
        hint: What a user can do about it; empty if there is no hint.
    """

    fact: str
    hint: str

    def __str__(self) -> str:
        return f"{self.fact}; {self.hint}" if self.hint else self.fact


def explain(broker: Broker, packet_type: int, code: int) -> Explanation:
    """Return what a reason code says, and what a user can do about it.

    Args:
        broker: The broker that sent it.
        packet_type: The packet that contained it: one of the library's `PacketTypes`.
        code: A reason code of MQTT 5, section 2.4.
    """
    return Explanation(reason_name(packet_type, code), hint_for_reason(broker, packet_type, code))


def explain_end(broker: Broker, client: PacketClient, otherwise: str = "") -> Explanation:
    """Return why a connection has ended, in the broker's own words if it gave a reason.

    Args:
        broker: The broker at the other end.
        client: The client that ran it.
        otherwise: The hint if the broker gave no reason, neither in MQTT nor in a TLS alert.
    """
    if client.code is None:
        hint = hint_for_alert(broker, client.error) or otherwise
        return Explanation(client.failure or "the broker does not answer", hint)
    end = explain(broker, PacketTypes.CONNACK if client.is_refused else PacketTypes.DISCONNECT, client.code)
    return Explanation(f"{end.fact}{client.remarks}", end.hint)


def new_client_id() -> str:
    """Return a client id of 128 random bits; keep it secret, because it lets anyone take over the session."""
    return secrets.token_hex(16)


def new_client_id_at(broker: Broker) -> str:
    """Return a new client id for a connection that is not the receiver's: it must not take over the receiver's session.

    If the broker accepts only certain client ids, it begins with the receiver's, and is as hard to guess as any other.

    Args:
        broker: The broker to connect to.
    """
    return new_client_id() if broker.client_id is None else f"{broker.client_id}-{new_client_id()}"


class Connector:
    """Makes connections to a broker, one after another.

    Args:
        broker: The broker.
        client_id: The session's name there.
        handlers: Called with the broker's packets.
        max_payload: Bytes of the largest payload that is accepted; no more of a larger one is held in memory.
        timeout: Seconds that connecting may take.
        session_expiry: How many seconds we ask the broker to keep the session without a connection; None for a session
            that ends with the connection.
        receive_maximum: How many unacknowledged messages the broker may send at a time.
        is_size_announced: Whether to announce the largest packet size to the broker. The broker drops larger packets,
            also if they are queued in the session of another program.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        handlers: Handlers,
        *,
        max_payload: int,
        receive_maximum: int,
        timeout: float = CONNECT_TIMEOUT_SECONDS,
        session_expiry: int | None = None,
        is_size_announced: bool = True,
    ) -> None:
        self._broker = broker
        self._client_id = client_id
        self._handlers = handlers
        self._max_packet_size = min(max_payload + OVERHEAD_BYTES, MAX_PACKET_BYTES)
        self._receive_maximum = receive_maximum
        self._timeout = timeout
        self._session_expiry = session_expiry
        self._is_size_announced = is_size_announced
        self._unreadable = UnreadablePackets()

    def use_client_id(self, client_id: str) -> None:
        """Let later clients connect under another client id.

        Args:
            client_id: The session's name at the broker.
        """
        self._client_id = client_id

    def new_client(self) -> PacketClient:
        """Return a client that is not connected yet."""
        client = PacketClient(
            self._broker.version,
            self._client_id,
            self._handlers,
            is_session_kept=self._session_expiry is not None,
            max_publish_size=self._max_packet_size,
            unreadable=self._unreadable,
            dial=lambda: dial(self._broker, self._timeout),
        )
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        return client

    def connect(self, client: PacketClient) -> None:
        """Connect, without waiting for the broker to accept.

        Args:
            client: From `new_client`, used once.

        Raises:
            TransportError: The broker was not reached.
        """
        broker = self._broker
        try:
            if broker.version is MqttVersion.V311:
                client.connect(broker.host, broker.port, KEEPALIVE_SECONDS)
            else:
                client.connect(
                    broker.host,
                    broker.port,
                    KEEPALIVE_SECONDS,
                    clean_start=self._session_expiry is None,
                    properties=self._properties(),
                )
        except ssl.SSLError as error:
            raise TransportError(
                f"TLS with the broker {broker} fails: {words_of(error)}", hint_for_error(broker, error)
            ) from error
        except DialError as error:
            raise TransportError(f"the broker {broker} cannot be reached: {error}", error.hint) from error
        # The codec of host names raises a ValueError for names that it cannot encode.
        except (OSError, ValueError) as error:
            raise TransportError(
                f"the broker {broker} cannot be reached: {words_of(error)}", hint_for_error(broker, error)
            ) from error

    def _properties(self) -> Properties:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as paho has it
        if self._session_expiry is not None:
            properties.SessionExpiryInterval = self._session_expiry
        properties.ReceiveMaximum = self._receive_maximum
        if self._is_size_announced:
            properties.MaximumPacketSize = self._max_packet_size
        return properties


def subscribe_size(topic: str) -> int:
    """Return how many bytes a SUBSCRIBE packet has.

    Args:
        topic: The topic to subscribe to.
    """
    return len(topic.encode()) + _SUBSCRIBE_OVERHEAD_BYTES


def disconnect(client: PacketClient, version: MqttVersion, *, ends: bool) -> None:
    """Disconnect, and end the session if requested and the version of MQTT can (MQTT 5, section 3.14.2.2.2).

    Args:
        client: Whose connection it is.
        version: The version of MQTT.
        ends: Whether the session ends together with the connection.
    """
    properties = None
    if ends and version is MqttVersion.V5:
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]  # as paho has it
        properties.SessionExpiryInterval = 0
    client.disconnect(properties=properties)


def leave(client: PacketClient, version: MqttVersion, *, ends: bool) -> None:
    """Disconnect as `disconnect` does, and wait a moment until everything is sent; for the thread of the connection.

    Args:
        client: Whose connection it is.
        version: The version of MQTT.
        ends: Whether the session ends together with the connection.
    """
    disconnect(client, version, ends=ends)
    deadline = time.monotonic() + LEAVE_SECONDS
    while client.want_write() and time.monotonic() < deadline and client.loop(_SHORT_LOOP_SECONDS) == MQTT_ERR_SUCCESS:
        pass
