"""Subscribing, with acknowledgement in the order of receipt, through every failure of the broker or the network."""

import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from idlib.outage import Outage
from idlib.session import Grant
from idlib.settings import MqttVersion
from idlib.transport.broker import Broker
from idlib.transport.connection import KEEPALIVE_SECONDS, QOS_AT_LEAST_ONCE, new_client
from idlib.transport.hints import hint_for_error, hint_for_reason

_LOG = logging.getLogger(__name__)

# The broker holds back what is beyond this, so that messages under way take a bounded part of the memory.
RECEIVE_MAXIMUM: Final = 256
_LOOP_SECONDS: Final = 0.25
_ANSWER_SECONDS: Final = 30.0
_SHORTEST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 60.0
# MQTT 5, section 3.14.2.1.
_SESSION_TAKEN_OVER: Final = 142


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
            except OSError as error:
                of_tls = isinstance(error, ssl.SSLError)
                what = "TLS with the broker {} fails" if of_tls else "The broker {} cannot be reached"
                hint = hint_for_error(self._broker, error)
                self._explain(f"{what.format(self._broker)}: {error}; {hint}")
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
        client = new_client(self._broker, self._client_id, manual_ack=True)
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
            hint = hint_for_reason(self._broker, reason.value)
            self._explain(f"The broker {self._broker} refuses the connection: {reason}; {hint}".removesuffix("; "))
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
        if any(reason.value < QOS_AT_LEAST_ONCE for reason in reasons):
            _LOG.warning(
                "The broker %s delivers at most once: what is under way when a connection breaks is lost", self._broker
            )
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


def _connect_for_session(client: Client, broker: Broker, session_expiry: int) -> None:
    if broker.version is MqttVersion.V311:
        client.connect(broker.host, broker.port, KEEPALIVE_SECONDS)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as paho has it
    properties.SessionExpiryInterval = session_expiry
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client.connect(broker.host, broker.port, KEEPALIVE_SECONDS, clean_start=False, properties=properties)
