"""The MQTT session: publish with acknowledgement, and subscribe with acknowledgement in the order of receipt.

The broker is trusted with nothing but delivery (MQTT 5, https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html).
"""

import logging
import random
import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from paho.mqtt.client import MQTT_ERR_NO_CONN, MQTT_ERR_SUCCESS, Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from idlib.errors import ConfigurationError, RefusedMessageError, TransportError
from idlib.outage import Outage
from idlib.session import Grant
from idlib.settings import MqttVersion, Settings, Switch

_LOG = logging.getLogger(__name__)

QOS_AT_LEAST_ONCE: Final = 1
# Half a minute after a device has changed its address, the broker and it notice that the old connection is dead.
KEEPALIVE_SECONDS: Final = 30
# The broker holds back what is beyond this, so that messages under way take a bounded part of the memory.
RECEIVE_MAXIMUM: Final = 256
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_LOOP_SECONDS: Final = 0.25
_ANSWER_SECONDS: Final = 30.0
_SHORTEST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 60.0
# MQTT 5, section 3.14.2.1.
_SESSION_TAKEN_OVER: Final = 142
_LONGEST_RECONNECT_SECONDS: Final = 8
# What the MQTT library sends at a time.
MAX_INFLIGHT: Final = 20


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and how it is spoken to.

    Args:
        host: A host name or an IP address.
        port: 1 to 65535.
        version: The version of MQTT.
        tls: How TLS is spoken with it; None for not at all.
        username: Ours there; None where it asks for none.
        password: Ours there, likewise.
    """

    host: str
    port: int
    version: MqttVersion
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the broker that the settings name.

        Raises:
            ConfigurationError: A file that they name cannot be used.
        """
        return cls(
            settings.mqtt_host,
            settings.mqtt_port,
            settings.mqtt_version,
            _tls_context(settings) if settings.mqtt_tls is Switch.ON else None,
            settings.mqtt_username,
            _password(settings.mqtt_password_file),
        )

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _tls_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.mqtt_ca_file)
    except OSError as error:
        raise ConfigurationError(f"Bad value of env var MQTT_CA_FILE: {settings.mqtt_ca_file}: {error}") from error
    if settings.mqtt_cert_file is not None:
        try:
            # Without a callback OpenSSL would ask at the terminal for a password.
            context.load_cert_chain(settings.mqtt_cert_file, settings.mqtt_key_file, lambda: "")
        except OSError as error:
            raise ConfigurationError(
                f"Bad value of env var MQTT_CERT_FILE or MQTT_KEY_FILE: {settings.mqtt_cert_file}: {error}"
            ) from error
    return context


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Bad value of env var MQTT_PASSWORD_FILE: {path} cannot be read") from error


def new_client_id() -> str:
    """Return a client id of 128 random bits: who knows it can take over the session, so it says nothing of us."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One arrival of a message, to be settled exactly once.

    Args:
        payload: What the message holds.
        received_at: In seconds since the epoch.
        connection: What it came through, and an acknowledgement must go through.
        packet_id: MQTT's number of it within that connection.
        qos: 0 or 1.
    """

    payload: bytes
    received_at: float
    connection: Client | None = field(default=None, repr=False)
    packet_id: int = 0
    qos: int = 0


class Subscription:
    """A persistent session at the broker that hands over every message of one topic.

    Args:
        broker: Where to subscribe.
        client_id: The session's name, the same at each start.
        topic: What to subscribe to.
        session_expiry: For how many seconds the broker is asked to keep the session without a connection.
        deliver: Called with each message from the thread that runs the session; may block to hold the broker back.
    """

    def __init__(
        self, broker: Broker, client_id: str, topic: str, session_expiry: int, deliver: Callable[[Delivery], None]
    ) -> None:
        self._broker = broker
        self._client_id = client_id
        self._topic = topic
        self._session_expiry = session_expiry
        self._deliver = deliver
        self._lock = threading.Lock()
        self._connection: Client | None = None
        self._unacknowledged: deque[Delivery] = deque()
        self._settled: set[Delivery] = set()
        self._subscribed = threading.Event()
        self._outage = Outage(_LOG)
        self._is_explained = False
        self._backoff = _SHORTEST_BACKOFF_SECONDS

    @property
    def is_active(self) -> bool:
        """Whether the broker has confirmed the subscription on the present connection."""
        return self._subscribed.is_set()

    @property
    def ailment(self) -> str | None:
        """Why there is no subscription at present, as far as that is known, or None."""
        return None if self.is_active else self._outage.cause or f"{self._broker} has not answered yet"

    def run(self, stopping: threading.Event) -> None:
        """Stay connected and subscribed until told to stop, through every failure of the broker or the network.

        Args:
            stopping: Set by another thread when it is time to leave; what is settled by then is acknowledged.
        """
        while not stopping.is_set():
            self._is_explained = False
            try:
                self._run_connection(stopping)
            except ssl.SSLError as error:
                self._explain(f"TLS with the broker {self._broker} fails: {error}")
            except OSError as error:
                self._explain(f"The broker {self._broker} cannot be reached: {error}")
            except Exception:  # noqa: BLE001  # whatever a broken broker makes the library raise must not end the thread
                _LOG.exception("The connection to the broker %s broke", self._broker)
            if not stopping.is_set():
                self._explain(f"The connection to the broker {self._broker} is lost")
            self._forget_connection()
            if not stopping.is_set():
                self._back_off(stopping)

    def settle(self, delivery: Delivery) -> None:
        """Let a message be acknowledged, as soon as all that came before it are (MQTT 5, section 4.6).

        A message of an earlier connection is not: the broker brings it again.

        Args:
            delivery: Printed, refused or stored for good.
        """
        with self._lock:
            if delivery.qos == 0 or delivery.connection is not self._connection or self._connection is None:
                return
            self._settled.add(delivery)
            while self._unacknowledged and self._unacknowledged[0] in self._settled:
                first = self._unacknowledged.popleft()
                self._settled.discard(first)
                self._connection.ack(first.packet_id, first.qos)

    def _run_connection(self, stopping: threading.Event) -> None:
        client = _new_client(self._broker, self._client_id, manual_ack=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        with self._lock:
            self._connection = client
        _connect_for_session(client, self._broker, self._session_expiry)
        answer_due = time.monotonic() + _ANSWER_SECONDS
        while client.loop(_LOOP_SECONDS) == MQTT_ERR_SUCCESS and not stopping.is_set():
            if not self._subscribed.is_set() and time.monotonic() >= answer_due:
                self._explain(f"The broker {self._broker} does not answer")
                client.disconnect()
                break
        if stopping.is_set() and client.is_connected():
            client.disconnect()
            while client.want_write() and client.loop(_LOOP_SECONDS) == MQTT_ERR_SUCCESS:
                pass

    def _forget_connection(self) -> None:
        self._subscribed.clear()
        with self._lock:
            self._connection = None
            self._unacknowledged.clear()
            self._settled.clear()

    def _explain(self, cause: str) -> None:
        """Note why a connection ended; what is noted first says most."""
        if self._is_explained:
            return
        self._is_explained = True
        if self._outage.is_stable:
            self._backoff = _SHORTEST_BACKOFF_SECONDS
        self._outage.begin(cause)

    def _back_off(self, stopping: threading.Event) -> None:
        # A random part of the delay, so that a fleet does not come back all at once after the broker's restart.
        stopping.wait(self._backoff * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
        self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF_SECONDS)

    def _on_connect(self, client: Client, _: Any, flags: Any, reason: ReasonCode, granted: Properties | None) -> None:
        if reason.is_failure:
            self._explain(f"The broker {self._broker} refuses the connection: {reason}")
            return
        grant = Grant.from_connack(self._broker.version, self._session_expiry, flags, granted)
        level = logging.WARNING if grant.is_short else logging.INFO
        _LOG.log(level, "MQTT connection established with %s: %s", self._broker, grant)
        client.subscribe(self._topic, QOS_AT_LEAST_ONCE)

    def _on_subscribe(self, client: Client, _: Any, __: int, reasons: list[ReasonCode], ___: Properties | None) -> None:
        if any(reason.is_failure for reason in reasons):
            self._explain(f"The broker {self._broker} refuses the subscription: {reasons[0]}")
            client.disconnect()
            return
        self._outage.end()
        self._subscribed.set()
        _LOG.info("MQTT subscription active.")

    def _on_message(self, client: Client, _: Any, message: MQTTMessage) -> None:
        delivery = Delivery(bytes(message.payload), time.time(), client, message.mid, message.qos)
        if message.qos:
            with self._lock:
                self._unacknowledged.append(delivery)
        self._deliver(delivery)

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, ____: Properties | None) -> None:
        if reason.value == _SESSION_TAKEN_OVER:
            self._explain(
                f"The session at the broker {self._broker} was taken over: is a copy of DATA_PATH in use elsewhere?"
            )
            # Both would take it from each other for ever; the less often, the more messages come through.
            self._backoff = _LONGEST_BACKOFF_SECONDS
        elif reason.is_failure:
            self._explain(f"The connection to the broker {self._broker} is lost: {reason}")


@dataclass(frozen=True, slots=True)
class Publication:
    """A message handed to the session, acknowledged or not yet.

    Args:
        info: What the MQTT library knows of it.
    """

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
        self._refusals: dict[int, ReasonCode] = {}
        self._connect_reason: ReasonCode | None = None
        self._window = MAX_INFLIGHT
        self._topic: str | None = None
        self._subscribed = threading.Event()
        self._subscribe_reason: ReasonCode | None = None
        self._client = _new_client(broker, new_client_id(), manual_ack=False)
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
        self._client.connect_timeout = min(_CONNECT_TIMEOUT_SECONDS, self._timeout)
        try:
            _connect_for_publishing(self._client, self._broker)
        except OSError as error:
            raise TransportError(
                f"the broker {self._broker} was not reached: {error}", "check MQTT_HOST and MQTT_PORT"
            ) from error
        self._client.loop_start()
        answered = self._connected.wait(self._timeout)
        if not answered or self._connect_reason is None or self._connect_reason.is_failure:
            self._client.loop_stop()
            said = self._connect_reason if answered else f"no answer within {self._timeout:g} s"
            raise TransportError(
                f"the broker {self._broker} did not accept the connection: {said}",
                "check that an MQTT broker listens there and speaks the MQTT_VERSION that is set",
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
        """
        properties = None
        if self._broker.version is MqttVersion.V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # as paho has it
            properties.MessageExpiryInterval = lifetime
        info = self._client.publish(topic, payload, QOS_AT_LEAST_ONCE, retain=False, properties=properties)
        if info.rc == MQTT_ERR_NO_CONN:
            # The library keeps it and sends it when it is connected again, but would call waiting for it an error.
            info.rc = MQTT_ERR_SUCCESS
        return Publication(info)

    def is_acknowledged(self, publication: Publication) -> bool:
        """Return whether the broker has acknowledged a message by now.

        Args:
            publication: From `publish`, and not waited for.
        """
        info = publication.info
        return info.rc == MQTT_ERR_SUCCESS and info.is_published() and info.mid not in self._refusals

    def wait(self, publication: Publication) -> None:
        """Return when the broker has acknowledged the message.

        Args:
            publication: From `publish`.

        Raises:
            RefusedMessageError: It refused the message.
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
        refusal = self._refusals.pop(info.mid, None)
        if refusal is not None:
            raise RefusedMessageError(f"the broker {self._broker} refuses the message: {refusal}")

    def _on_connect(self, client: Client, _: Any, __: Any, reason: ReasonCode, properties: Properties | None) -> None:
        allowed = getattr(properties, "ReceiveMaximum", None)
        if allowed is not None:
            # To send more at a time is an error that ends the connection (MQTT 5, section 4.9).
            self._window = min(allowed, MAX_INFLIGHT)
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
        if reason.is_failure:
            self._refusals[packet_id] = reason


def _new_client(broker: Broker, client_id: str, *, manual_ack: bool) -> Client:
    is_version_5 = broker.version is MqttVersion.V5
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        # MQTT 5 says at connecting whether to begin anew.
        clean_session=None if is_version_5 else not manual_ack,
        protocol=MQTTProtocolVersion.MQTTv5 if is_version_5 else MQTTProtocolVersion.MQTTv311,
        manual_ack=manual_ack,
    )
    client.connect_timeout = _CONNECT_TIMEOUT_SECONDS
    if broker.tls is not None:
        client.tls_set_context(broker.tls)
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    return client


def _connect_for_session(client: Client, broker: Broker, session_expiry: int) -> None:
    if broker.version is MqttVersion.V311:
        client.connect(broker.host, broker.port, KEEPALIVE_SECONDS)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as paho has it
    properties.SessionExpiryInterval = session_expiry
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client.connect(broker.host, broker.port, KEEPALIVE_SECONDS, clean_start=False, properties=properties)


def _connect_for_publishing(client: Client, broker: Broker) -> None:
    if broker.version is MqttVersion.V311:
        client.connect(broker.host, broker.port, KEEPALIVE_SECONDS)
    else:
        client.connect(broker.host, broker.port, KEEPALIVE_SECONDS, clean_start=True)
