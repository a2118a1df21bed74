"""The connection to the local broker: one session for both directions, which reconnects after every failure."""

import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes

from idlib.errors import TransportError
from idlib.local_broker.connecting import connect
from idlib.local_broker.hints import hint_for_end, hint_for_reason
from idlib.local_broker.place import SESSION_EXPIRY_SECONDS, LocalBroker
from idlib.settings import MqttVersion
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.transport import Broker, ReceivedPacket
from idlib.transport.client import Handlers, PacketClient, reason_name
from idlib.transport.connection import LOOP_SECONDS, QOS_AT_LEAST_ONCE, Connector
from idlib.transport.packets import Connack, Publish
from idlib.transport.publication import FIRST_FAILURE, publish_size
from idlib.transport.session import Grant

_LOG: Final = logging.getLogger(__name__)

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
# How many messages to be sent the local broker hands over before they are in the outbox.
RECEIVE_MAXIMUM: Final = 32
MAX_UNACKNOWLEDGED: Final = 256
# Of what is published without waiting for it; more is dropped. The rest is for messages: whoever floods this device
# with what cannot be sent must not fill the queue with our reports.
MAX_UNAWAITED: Final = 128
_MAX_INFLIGHT: Final = 20
# The wait for packets ends at once if there is something to send, and when `wake` is called.
_LOOP_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
_SHORTEST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 30.0
_UNSUPPORTED_VERSION: Final = 132
# After this many connections in a row that a broker closed in place of an answer, it may not know MQTT 5.
_MAX_UNANSWERED: Final = 3
_AT_MOST_ONCE: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Something that was published for this device at the local broker.

    Args:
        topic: Where.
        payload: What; empty if it is refused.
        packet: To be acknowledged once, in the order of arrival.
        is_retained: Whether it is an old message that the broker keeps for everyone who subscribes.
        fault: Why it is refused before anyone looks at it; None if it is not.
    """

    topic: bytes
    payload: bytes = field(repr=False)
    packet: ReceivedPacket
    is_retained: bool = False
    fault: str | None = None


class LocalConnection:
    """A persistent session at the local broker.

    What is subscribed to is asked for at each connection, and PREFIX/status then becomes `online`; the broker itself
    changes it to `offline` when the connection is lost (MQTT 5, section 3.1.2.5).

    Args:
        place: The local broker.
        public: The broker through which devices reach each other, which the local one must not be.
        client_id: The session's name, the same at each start.
        max_payload: Bytes of the largest payload that is held in memory.
        take: Called with what is published below PREFIX/out/, from the thread that runs the connection; must not block.
    """

    def __init__(
        self, place: LocalBroker, public: Broker, client_id: str, max_payload: int, take: Callable[[Taken], None]
    ) -> None:
        self._place = place
        self._public = public
        self._client_id = client_id
        self._max_payload = max_payload
        self._take = take
        self._broker = place.broker
        self._topics: dict[str, Callable[[bytes], None]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._client: PacketClient | None = None
        self._grant: Grant | None = None
        self._answers: dict[int, concurrent.futures.Future[int]] = {}
        self._ready = threading.Event()
        self._outage = FailureLog(_LOG)
        self._is_explained = False
        self._was_accepted = False
        self._unanswered = 0
        self._backoff = Backoff(_SHORTEST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        self._connector = self._new_connector()

    def __str__(self) -> str:
        return f"the local broker {self._broker}"

    @property
    def is_active(self) -> bool:
        """Whether the local broker has accepted the present connection, and answered the subscription."""
        return self._ready.is_set()

    @property
    def problem(self) -> str | None:
        """Why there is no connection at present, as far as is known, or None."""
        return None if self.is_active else self._outage.cause or f"{self} has not answered yet"

    def subscribe(self, topic: str, hear: Callable[[bytes], None]) -> None:
        """Receive what is published to a topic, at QoS 0, also what is retained there; to be called before `run`.

        Args:
            topic: The topic, without wildcards.
            hear: Called with each payload from the thread that runs the connection; must not block.
        """
        self._topics[topic] = hear

    def on_connection(self, listener: Callable[[], None]) -> None:
        """Call something at each connection, after the subscriptions; to be called before `run`.

        Args:
            listener: Called from the thread that runs the connection; must not block, and may publish.
        """
        self._listeners.append(listener)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish something at QoS 1 without waiting for the answer; return whether it is under way.

        Without a connection, or while the broker has not acknowledged MAX_UNAWAITED others, it is dropped: what must
        not be lost is published by `on_connection`, or by `send`.

        Args:
            topic: Where.
            payload: What; with `retain`, an empty payload removes what is retained there.
            retain: Whether the broker keeps it for those who subscribe later.
        """
        with self._lock:
            is_crowded = self._client is not None and self._client.number_unacknowledged >= MAX_UNAWAITED
            return not is_crowded and self._publish(topic, payload, retain=retain) is not None

    def send(self, topic: str, payload: bytes) -> "concurrent.futures.Future[int] | None":
        """Publish a message at QoS 1, not retained; return the broker's reason code as a future.

        The future has a TransportError if the connection is lost before the answer. None without a connection.

        Args:
            topic: Where.
            payload: The message.
        """
        with self._lock:
            number = self._publish(topic, payload, retain=False)
            if number is None:
                return None
            answer = self._answers[number] = concurrent.futures.Future()
            return answer

    def admits(self, topic: str, payload: bytes) -> bool:
        """Return whether the broker of the last connection accepts packets of a size.

        Args:
            topic: Where it would be published.
            payload: What would be published.
        """
        grant = self._grant
        return grant is None or grant.admits(publish_size(topic, payload))

    def explain(self, code: int) -> str:
        """Return what the broker's reason code for a message says, and what a user can do.

        Args:
            code: From `send`.
        """
        hint = hint_for_reason(self._broker, code)
        return f"{reason_name(PacketTypes.PUBACK, code)}{'; ' if hint else ''}{hint}"

    def acknowledge(self, packet: ReceivedPacket) -> None:
        """Acknowledge something that was taken; the broker sends what is not acknowledged again.

        Args:
            packet: Its packet.
        """
        with self._lock:
            if packet.qos and packet.connection is self._client and self._client is not None:
                self._client.acknowledge(packet.packet_id, packet.qos)

    def is_sent_again(self, packet: ReceivedPacket) -> bool | None:
        """Return whether the broker sends again what came over an earlier connection, because it has kept the session.

        None while there is no connection, because only the next one shows that.

        Args:
            packet: Its packet, which was not acknowledged.
        """
        with self._lock:
            client, grant = self._client, self._grant
            if not packet.qos or packet.connection is client:
                return False
            if client is None or not client.is_answered or grant is None:
                return None
            return grant.is_kept

    def run(self, stopping: threading.Event) -> None:
        """Stay connected until `stopping` is set; reconnect after every failure of broker or network.

        Args:
            stopping: Set by another thread to stop, which then calls `wake`.
        """
        while not stopping.is_set():
            self._is_explained = False
            client = self._connector.new_client()
            client.will_set(self._place.topics.status, OFFLINE, QOS_AT_LEAST_ONCE, retain=True)
            client.max_queued_messages_set(MAX_UNACKNOWLEDGED)
            # The library allows no change once a connection is open, so the broker's limit applies to the next one.
            client.max_inflight_messages_set(self._window)
            try:
                connect(self._connector, client, self._broker, self._public)
                self._run_connection(client, stopping)
            except TransportError as error:
                self._explain(str(error))
            except Exception:  # noqa: BLE001  # an error below us must not end the thread
                _LOG.exception("The connection to %s broke", self)
            if not stopping.is_set():
                self._explain_end(client)
            self._forget_connection(client)
            if not stopping.is_set():
                stopping.wait(self._backoff.next_pause())

    def wake(self) -> None:
        """Let the thread in `run` notice at once that it is to stop."""
        with self._lock:
            if self._client is not None:
                self._client.wake()

    @property
    def _window(self) -> int:
        return _MAX_INFLIGHT if self._grant is None else min(self._grant.receive_maximum, _MAX_INFLIGHT)

    def _new_connector(self) -> Connector:
        return Connector(
            self._broker,
            self._client_id,
            Handlers(self._on_connected, self._on_subscribed, self._on_published, self._on_acknowledged),
            max_payload=self._max_payload,
            receive_maximum=RECEIVE_MAXIMUM,
            session_expiry=SESSION_EXPIRY_SECONDS,
            is_size_announced=False,
        )

    def _run_connection(self, client: PacketClient, stopping: threading.Event) -> None:
        with self._lock:
            self._client = client
        answer_due = time.monotonic() + _ANSWER_SECONDS
        while not stopping.is_set() and client.loop(self._patience(client)) == MQTT_ERR_SUCCESS:
            if not self._ready.is_set() and time.monotonic() >= answer_due:
                self._explain(f"{self} does not answer; {hint_for_end(self._broker, None, is_answered=False)}")
                break
        if stopping.is_set() and client.is_connected():
            self.publish(self._place.topics.status, OFFLINE, retain=True)
            client.disconnect()
            while client.want_write() and client.loop(LOOP_SECONDS) == MQTT_ERR_SUCCESS:
                pass

    def _patience(self, client: PacketClient) -> float:
        """Return how many seconds to wait for packets; not long while answers are awaited or pings are due soon."""
        return _LOOP_SECONDS if self._ready.is_set() and client.keepalive >= 4 * _LOOP_SECONDS else LOOP_SECONDS

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> int | None:
        """Give something to the client, with the lock held; return its packet identifier, None if that failed."""
        if self._client is None or not self._client.is_answered or self._client.is_refused:
            return None
        sent = self._client.publish(topic, payload, QOS_AT_LEAST_ONCE, retain=retain)
        return sent.mid if sent.rc == MQTT_ERR_SUCCESS else None

    def _on_connected(self, connack: Connack) -> None:
        client = self._client
        if client is None:
            return
        grant = Grant.from_connack(
            self._broker.version, SESSION_EXPIRY_SECONDS, connack.properties, is_kept=connack.is_session_present
        )
        _LOG.debug("connected to %s: %s", self, grant)
        self._grant = grant
        self._was_accepted, self._unanswered = True, 0
        if grant.maximum_qos < QOS_AT_LEAST_ONCE:
            self._explain(f"{self} does not accept QoS 1; configure it to, or use another one")
            client.disconnect()
            return
        wanted = [
            (self._place.topics.every_out, QOS_AT_LEAST_ONCE),
            *((topic, _AT_MOST_ONCE) for topic in self._topics),
        ]
        client.subscribe(wanted)

    def _on_subscribed(self, codes: tuple[int, ...]) -> None:
        for topic, code in zip((self._place.topics.every_out, *self._topics), codes, strict=False):
            if code >= FIRST_FAILURE:
                _LOG.warning(
                    "%s refuses the subscription to %s: %s",
                    f"The{str(self)[3:]}",
                    topic,
                    reason_name(PacketTypes.SUBACK, code),
                )
        self._outage.end()
        _LOG.info("Connected to the local broker %s: topics start with %s/", self._broker, self._place.topics.prefix)
        self._ready.set()
        self.publish(self._place.topics.status, ONLINE, retain=True)
        for listener in self._listeners:
            listener()

    def _on_published(self, message: Publish) -> None:
        topic = message.topic.decode("utf-8", "replace")
        hear = self._topics.get(topic)
        # The kept session may still have a subscription of earlier settings, such as that for Home Assistant.
        if message.qos == _AT_MOST_ONCE and (hear is not None or not topic.startswith(self._place.topics.out)):
            if hear is not None and message.refusal is None:
                hear(message.payload)
            return
        packet = ReceivedPacket(self._client, message.packet_id, message.qos)
        fault = None if message.refusal is None else message.refusal.fact
        self._take(Taken(message.topic, message.payload, packet, message.is_retained, fault))

    def _on_acknowledged(self, packet_id: int, code: int) -> None:
        with self._lock:
            answer = self._answers.pop(packet_id, None)
        if answer is not None:
            answer.set_result(code)

    def _forget_connection(self, client: PacketClient) -> None:
        self._ready.clear()
        with self._lock:
            self._client = None
            left = list(self._answers.values())
            self._answers.clear()
        client.close()
        for answer in left:
            answer.set_exception(TransportError(f"the connection to {self} is lost"))

    def _explain_end(self, client: PacketClient) -> None:
        """Log why the client's connection ended, as far as the client knows, and note whether it may be the version."""
        if self._is_explained:
            return
        hint = hint_for_end(self._broker, client.code, is_answered=client.is_answered or self._was_accepted)
        end = f"{client.failure or 'the broker does not answer'}{'; ' if hint else ''}{hint}"
        if client.is_refused:
            self._explain(f"{self} refuses the connection: {end}")
        elif client.is_answered:
            self._explain(f"the connection to {self} is lost: {end}")
        else:
            self._unanswered += 1
            self._explain(f"{self} did not accept the connection: {end}")
        is_silent = self._unanswered >= _MAX_UNANSWERED and not self._was_accepted
        if client.code == _UNSUPPORTED_VERSION or is_silent:
            self._change_version()

    def _change_version(self) -> None:
        """Use the other version of MQTT from now on."""
        self._unanswered = 0
        other = MqttVersion.V311 if self._broker.version is MqttVersion.V5 else MqttVersion.V5
        self._broker = replace(self._broker, version=other)
        self._connector = self._new_connector()

    def _explain(self, cause: str) -> None:
        """Log why a connection ended; only the first cause counts."""
        if self._is_explained:
            return
        self._is_explained = True
        if self._outage.is_stable:
            self._backoff.reset()
        self._outage.begin(cause[0].upper() + cause[1:])
