"""Subscribes, acknowledges messages in the order of receipt, and reconnects after any failure of broker or network."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes

from idlib.errors import Reason, Refusal, TransportError
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.transport.broker import Broker
from idlib.transport.client import Handlers, PacketClient, ignore
from idlib.transport.connection import (
    LOOP_SECONDS,
    QOS_AT_LEAST_ONCE,
    SESSION_TAKEN_OVER,
    Connector,
    Explanation,
    explain,
    explain_end,
    subscribe_size,
)
from idlib.transport.hints import hint_for_lost_connection, hint_for_reason, hint_for_silence
from idlib.transport.packets import Connack, Publish
from idlib.transport.publication import FIRST_FAILURE
from idlib.transport.session import Grant, LastSession

_LOG = logging.getLogger(__name__)

# The broker holds back further messages, so that those in flight take a bounded amount of memory.
RECEIVE_MAXIMUM: Final = 128
# The wait for packets ends at once if there is something to send, and when `wake` is called.
_LOOP_SECONDS: Final = 5.0
_NOTE_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 30.0
_SHORTEST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 60.0
# After this many connections in a row that broke without progress, the messages are the likely cause.
_MAX_FRUITLESS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedPacket:
    """The packet that a message came in, without the message, so that keeping it takes little memory.

    Args:
        connection: The connection that it came through; its acknowledgement must use the same one.
        packet_id: Its packet identifier within that connection.
        qos: 0 to 2.
    """

    connection: PacketClient | None = field(default=None, repr=False)
    packet_id: int = 0
    qos: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One arrival of a message.

    Args:
        payload: The content of the message.
        received_at: In seconds since the epoch.
        packet: The packet that it came in, to be settled exactly once.
        refusal: Why the message is refused before it is examined; None if it is not.
    """

    payload: bytes
    received_at: float
    packet: ReceivedPacket = field(default_factory=ReceivedPacket)
    refusal: Refusal | None = None


class SessionMemory(Protocol):
    """Stores across restarts that there is a session; neither method blocks for long or raises."""

    def recall(self) -> str | None:
        """Return the text that was stored last, or None."""

    def note(self, text: str) -> None:
        """Store a text."""


class Subscription:
    """A persistent session at the broker that hands over every message of one topic.

    Args:
        broker: Where to subscribe.
        client_id: The session's name, the same at each start.
        topic: What to subscribe to.
        session_expiry: For how many seconds the broker is asked to keep the session without a connection.
        max_message_size: Bytes of the largest message that is accepted; a much larger one is not held in memory and
            is delivered as a refusal.
        deliver: Called with each message from the thread that runs the session; may block to hold the broker back.
        memory: Stores that there is a session, so that its loss is noticed even after a restart.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        topic: str,
        session_expiry: int,
        max_message_size: int,
        deliver: Callable[[Delivery], None],
        memory: SessionMemory | None = None,
    ) -> None:
        self._broker = broker
        self._connector = Connector(
            broker,
            client_id,
            Handlers(self._on_connected, self._on_subscribed, self._on_published, ignore),
            max_payload=max_message_size,
            receive_maximum=RECEIVE_MAXIMUM,
            session_expiry=session_expiry,
        )
        self._topic = topic
        self._max_message_size = max_message_size
        self._session_expiry = session_expiry
        self._deliver = deliver
        self._lock = threading.Lock()
        self._connection: PacketClient | None = None
        self._unacknowledged: deque[ReceivedPacket] = deque()
        self._settled: set[ReceivedPacket] = set()
        self._subscribed = threading.Event()
        self._outage = FailureLog(_LOG)
        self._is_explained = False
        self._was_accepted = False
        self._backoff = Backoff(_SHORTEST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        self._memory = memory
        self._granted_expiry: int | None = None
        self._has_noted = False
        self._last_session = self._recall()
        self._note_due = 0.0
        self._has_progressed = False
        self._fruitless = 0

    @property
    def is_active(self) -> bool:
        """Whether the broker has confirmed the subscription on the present connection."""
        return self._subscribed.is_set()

    @property
    def problem(self) -> str | None:
        """Why there is no subscription at present, as far as is known, or None."""
        return None if self.is_active else self._outage.cause or f"{self._broker} has not answered yet"

    @property
    def stalled_reason(self) -> str | None:
        """Why no messages arrive although the broker can be reached, or None."""
        if self._fruitless < _MAX_FRUITLESS or (self.is_active and self._outage.is_stable):
            return None
        return f"{self._fruitless} connections to the broker {self._broker} broke while messages were under way"

    def run(self, stopping: threading.Event) -> None:
        """Stay connected and subscribed until `stopping` is set; reconnect after every failure of broker or network.

        Args:
            stopping: Set by another thread to stop, which then calls `wake`; messages settled by then are acknowledged.
        """
        while not stopping.is_set():
            self._is_explained = False
            client = self._connector.new_client()
            try:
                self._connector.connect(client)
                self._run_connection(client, stopping)
            except TransportError as error:
                cause = str(error)
                self._explain(cause[0].upper() + cause[1:])
            except Exception:  # noqa: BLE001  # an error below us must not end the thread
                _LOG.exception("The connection to the broker %s broke", self._broker)
            if not stopping.is_set():
                self._explain_end(client)
            self._forget_connection(client)
            if not stopping.is_set():
                stopping.wait(self._backoff.next_pause())

    def wake(self) -> None:
        """Let the thread in `run` notice at once that it is to stop."""
        with self._lock:
            if self._connection is not None:
                self._connection.wake()

    def settle(self, packet: ReceivedPacket) -> None:
        """Allow a message to be acknowledged as soon as all earlier ones are (MQTT 5, section 4.6).

        A message of an earlier connection is not acknowledged: the broker sends it again.

        Args:
            packet: The packet of a message that is printed, refused or stored for good.
        """
        with self._lock:
            if packet.qos == 0 or packet.connection is not self._connection or self._connection is None:
                return
            self._settled.add(packet)
            while self._unacknowledged and self._unacknowledged[0] in self._settled:
                first = self._unacknowledged.popleft()
                self._settled.discard(first)
                self._connection.acknowledge(first.packet_id, first.qos)
                self._has_progressed, self._fruitless = True, 0

    def _run_connection(self, client: PacketClient, stopping: threading.Event) -> None:
        with self._lock:
            self._connection = client
        answer_due = time.monotonic() + _ANSWER_SECONDS
        while not stopping.is_set() and client.loop(self._patience(client)) == MQTT_ERR_SUCCESS:
            if self._subscribed.is_set() and time.monotonic() >= self._note_due:
                self._note_session()
            if not self._subscribed.is_set() and time.monotonic() >= answer_due:
                self._explain(str(Explanation(f"The broker {self._broker} does not answer", self._hint_for_silence())))
                client.disconnect()
                break
        if stopping.is_set() and client.is_connected():
            client.disconnect()
            while client.want_write() and client.loop(LOOP_SECONDS) == MQTT_ERR_SUCCESS:
                pass

    def _patience(self, client: PacketClient) -> float:
        """Return how many seconds to wait for packets; not long while answers are awaited or pings are due soon."""
        return _LOOP_SECONDS if self._subscribed.is_set() and client.keepalive >= 4 * _LOOP_SECONDS else LOOP_SECONDS

    def _recall(self) -> LastSession | None:
        text = None if self._memory is None else self._memory.recall()
        self._has_noted = text is not None
        last = None if text is None else LastSession.from_text(text)
        # The recorded session was at another broker.
        return last if last is not None and last.broker == str(self._broker) else None

    def _note_session(self) -> None:
        self._note_due = time.monotonic() + _NOTE_SECONDS
        self._has_noted = True
        self._last_session = LastSession(str(self._broker), int(time.time()), self._granted_expiry)
        if self._memory is not None:
            self._memory.note(str(self._last_session))

    def _tell_lost_session(self, last: LastSession) -> None:
        since = datetime.fromtimestamp(last.active_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if last.should_exist(time.time()):
            _LOG.warning(
                "The broker %s has lost the session, which was active at %s: messages to this device since then may be"
                " lost, although the broker had acknowledged them; it may have been restarted without persistence, or"
                " another client may have used the same client id or user name",
                self._broker,
                since,
            )
        else:
            _LOG.info(
                "The session at the broker %s has expired: it was active at %s, and was kept for %s s; messages to this"
                " device since then may be lost",
                self._broker,
                since,
                last.expiry,
            )

    def _tell_unknown_session(self) -> None:
        """Warn that the broker has a session although none of ours is recorded."""
        if self._memory is None or self._is_session_expected():
            return
        _LOG.warning(
            "The broker %s has a session that this receiver did not record: if files under DATA_PATH were lost, or"
            " restored from a backup, it may be this receiver's own; otherwise another program created it, because the"
            " broker uses the user name as the client id, or because MQTT_CLIENT_ID is not this receiver's alone, and"
            " messages to this device before now may be lost",
            self._broker,
        )

    def _is_session_expected(self) -> bool:
        # The record may be older than the end of the connection.
        return self._has_noted and (
            self._last_session is None or self._last_session.should_exist(time.time() - _NOTE_SECONDS)
        )

    def _forget_connection(self, client: PacketClient) -> None:
        if self._subscribed.is_set():
            self._note_session()
        self._subscribed.clear()
        with self._lock:
            if not self._has_progressed and (self._unacknowledged or client.is_within_publish):
                self._fruitless += 1
            self._has_progressed = False
            self._connection = None
            self._unacknowledged.clear()
            self._settled.clear()
        client.close()

    def _explain_end(self, client: PacketClient) -> None:
        """Record why the client's connection ended, as far as the client knows."""
        if client.code == SESSION_TAKEN_OVER:
            hint = hint_for_reason(self._broker, PacketTypes.DISCONNECT, client.code)
            fact = f"The session at the broker {self._broker} was taken over{client.remarks}"
            self._explain(str(Explanation(fact, hint)))
            # Both clients would keep taking it over; the less often they do, the more messages are delivered.
            self._backoff.give_way()
        elif client.is_refused:
            self._explain(f"The broker {self._broker} refuses the connection: {explain_end(self._broker, client)}")
        else:
            end = explain_end(self._broker, client, self._hint_for_silence())
            if client.is_answered:
                self._explain(f"The connection to the broker {self._broker} is lost: {end}")
            else:
                self._explain(f"The broker {self._broker} did not accept the connection: {end}")

    def _hint_for_silence(self) -> str:
        # A broker that has accepted us before hardly expects other settings now.
        return hint_for_lost_connection(self._broker) if self._was_accepted else hint_for_silence(self._broker)

    def _explain(self, cause: str) -> None:
        """Log why a connection ended; only the first cause counts."""
        if self._is_explained:
            return
        self._is_explained = True
        if self._outage.is_stable:
            self._backoff.reset()
        self._outage.begin(cause)

    def _on_connected(self, connack: Connack) -> None:
        grant = Grant.from_connack(
            self._broker.version, self._session_expiry, connack.properties, is_kept=connack.is_session_present
        )
        level = logging.WARNING if grant.is_short else logging.INFO
        _LOG.log(level, "MQTT connection established with %s: %s", self._broker, grant)
        self._granted_expiry = grant.expiry
        self._was_accepted = True
        if grant.is_kept:
            self._tell_unknown_session()
        elif self._last_session is not None:
            self._tell_lost_session(self._last_session)
        # From now on we have a session, even if the subscription is refused.
        self._note_session()
        connection = self._connection
        if connection is None:
            return
        if not grant.admits(subscribe_size(self._topic)):
            limit = grant.maximum_packet_size
            self._explain(
                f"The broker {self._broker} takes packets of at most {limit} bytes, too few for our subscription"
            )
            connection.disconnect()
            return
        connection.subscribe(self._topic, QOS_AT_LEAST_ONCE)

    def _on_subscribed(self, codes: tuple[int, ...]) -> None:
        if codes[0] >= FIRST_FAILURE:
            refusal = explain(self._broker, PacketTypes.SUBACK, codes[0])
            self._explain(f"The broker {self._broker} refuses the subscription: {refusal}")
            if self._connection is not None:
                self._connection.disconnect()
            return
        if codes[0] < QOS_AT_LEAST_ONCE:
            _LOG.warning(
                "The broker %s delivers at most once: messages in flight are lost when the connection breaks",
                self._broker,
            )
        self._outage.end()
        self._subscribed.set()
        _LOG.info("MQTT subscription active.")

    def _on_published(self, message: Publish) -> None:
        payload, refusal = message.payload, message.refusal
        if refusal is None and len(payload) > self._max_message_size:
            # Do not keep the payload: a window of such messages would take more memory than all others together.
            fact = f"{len(payload)} bytes are more than {self._max_message_size}"
            payload, refusal = b"", Refusal(Reason.OVERSIZED, fact)
        packet = ReceivedPacket(self._connection, message.packet_id, message.qos)
        if packet.qos:
            with self._lock:
                self._unacknowledged.append(packet)
        self._deliver(Delivery(payload, time.time(), packet, refusal))
