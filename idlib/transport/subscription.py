"""Subscribes, acknowledges messages in the order of receipt, and reconnects after any failure of broker or network."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes

from idlib.errors import TransportError
from idlib.settings.store_settings import SHARED
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.transport.arrivals import Arrivals, Delivery, ReceivedPacket
from idlib.transport.broker import Broker
from idlib.transport.client import Handlers, PacketClient, ignore
from idlib.transport.connection import (
    LOOP_SECONDS,
    NO_SHARED_SUBSCRIPTIONS,
    QOS_AT_LEAST_ONCE,
    SESSION_TAKEN_OVER,
    Connector,
    Explanation,
    explain,
    explain_end,
    leave,
    subscribe_size,
)
from idlib.transport.drainage import Drainage
from idlib.transport.hints import hint_for_lost_connection, hint_for_reason, hint_for_silence
from idlib.transport.packets import Connack
from idlib.transport.publication import FIRST_FAILURE
from idlib.transport.session import Grant
from idlib.transport.session_notes import SessionMemory, SessionNotes

_LOG = logging.getLogger(__name__)

# The broker holds back further messages, so that those in flight take a bounded amount of memory.
RECEIVE_MAXIMUM: Final = 128
# The wait for packets ends at once if there is something to send, and when `wake` is called.
_LOOP_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
# A receiver that stops has five seconds.
_QUIET_SECONDS: Final = 0.5
_SHORTEST_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF_SECONDS: Final = 60.0
# After this many connections in a row that broke without progress, the messages are the likely cause.
_MAX_FRUITLESS: Final = 3


class Subscription:
    """A persistent session at the broker that hands over every message of one subscription.

    Args:
        broker: Where to subscribe.
        client_id: Returns the session's name, the same at each start. With None, no connection is made; a connection
            that exists is kept until the name is another one.
        topic_filter: What to subscribe to.
        session_expiry: For how many seconds the broker is asked to keep the session without a connection.
        max_message_size: Bytes of the largest message that is accepted; a much larger one is not held in memory and
            is delivered as a refusal.
        deliver: Called with each message from the thread that runs the session; may block to hold the broker back.
        memory: Stores that there is a session, so that its loss is noticed even after a restart.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: Callable[[], str | None],
        topic_filter: str,
        session_expiry: int,
        max_message_size: int,
        deliver: Callable[[Delivery], None],
        memory: SessionMemory | None = None,
    ) -> None:
        self._broker = broker
        self._client_id = client_id
        self._arrivals = Arrivals(max_message_size, deliver)
        self._connector = Connector(
            broker,
            "",
            Handlers(self._on_connected, self._on_subscribed, self._arrivals.take, ignore, self._on_unsubscribed),
            max_payload=max_message_size,
            receive_maximum=RECEIVE_MAXIMUM,
            session_expiry=session_expiry,
        )
        self._topic_filter = topic_filter
        self._session_expiry = session_expiry
        self._memory = memory
        self._session: str | None = None
        self._notes = SessionNotes(broker, None)
        self._subscribed = threading.Event()
        self._outage = FailureLog(_LOG)
        self._is_explained = False
        self._was_accepted = False
        self._backoff = Backoff(_SHORTEST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
        self._fruitless = 0
        self._unsupported: TransportError | None = None
        self._leaving = threading.Event()
        self._has_left = threading.Event()
        self._drainage: Drainage | None = None

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

        Raises:
            TransportError: The broker has no shared subscriptions, but the topic filter is one.
        """
        while not stopping.is_set() and not self._has_left.is_set():
            self._is_explained = False
            client = self._new_client()
            if client is None:
                stopping.wait(LOOP_SECONDS)
                continue
            self._run_client(client, stopping)
            if self._unsupported is not None:
                raise self._unsupported
            if not stopping.is_set() and not self._has_left.is_set():
                stopping.wait(self._backoff.next_pause())
        # After leaving.
        stopping.wait()

    def wake(self) -> None:
        """Let the thread in `run` notice at once that it is to stop."""
        self._arrivals.wake()

    def leave(self, seconds: float) -> bool:
        """End the subscription, take what the session still has, and then end the session; only MQTT 5 can do this.

        Messages are delivered and have to be settled meanwhile. The thread in `run` does all this, and waits for its
        `stopping` afterwards.

        Args:
            seconds: How long to wait for that.

        Returns:
            Whether the session has ended. If not, it is kept with the messages that are not settled.
        """
        self._leaving.set()
        self.wake()
        return self._has_left.wait(seconds)

    def settle(self, packets: Sequence[ReceivedPacket]) -> None:
        """Allow messages to be acknowledged as soon as all earlier ones are (MQTT 5, section 4.6).

        A message of another connection is not acknowledged: the broker sends it again.

        Args:
            packets: The packets of messages that are printed, refused or stored for good.
        """
        if self._arrivals.settle(packets):
            self._fruitless = 0

    def _new_client(self) -> PacketClient | None:
        """Return a client for the next connection; None if the session may not be used."""
        session = self._client_id()
        if session is None:
            return None
        if session != self._session:
            self._session = session
            self._connector.use_client_id(session)
            self._notes = SessionNotes(self._broker, self._memory)
        return self._connector.new_client()

    def _run_client(self, client: PacketClient, stopping: threading.Event) -> None:
        try:
            self._connector.connect(client)
            self._run_connection(client, stopping)
        except TransportError as error:
            cause = str(error)
            self._explain(cause[0].upper() + cause[1:])
        except Exception:  # noqa: BLE001  # an error below us must not end the thread
            _LOG.exception("The connection to the broker %s broke", self._broker)
        if not stopping.is_set() and not self._has_left.is_set():
            self._explain_end(client)
        self._forget_connection(client)

    def _run_connection(self, client: PacketClient, stopping: threading.Event) -> None:
        self._arrivals.begin(client)
        answer_due = time.monotonic() + _ANSWER_SECONDS
        while not stopping.is_set() and client.loop(self._patience(client)) == MQTT_ERR_SUCCESS:
            if self._subscribed.is_set():
                self._notes.keep()
            elif time.monotonic() >= answer_due:
                self._explain(str(Explanation(f"The broker {self._broker} does not answer", self._hint_for_silence())))
                client.disconnect()
                break
            if self._client_id() not in {None, self._session}:
                self._explain(self._lost)
                client.disconnect()
                break
            if self._leaving.is_set() and self._is_drained(client):
                leave(client, self._broker.version, ends=True)
                self._has_left.set()
                return
        if stopping.is_set() and client.is_connected():
            leave(client, self._broker.version, ends=False)

    def _is_drained(self, client: PacketClient) -> bool:
        if self._drainage is None and self._subscribed.is_set():
            self._drainage = Drainage(client, (self._topic_filter,), self._arrivals, _QUIET_SECONDS)
        return self._drainage is not None and self._drainage.is_complete()

    def _patience(self, client: PacketClient) -> float:
        """Return how many seconds to wait for packets; not long while answers are awaited or pings are due soon."""
        is_settled = self._subscribed.is_set() and not self._leaving.is_set()
        return _LOOP_SECONDS if is_settled and client.keepalive >= 4 * _LOOP_SECONDS else LOOP_SECONDS

    def _forget_connection(self, client: PacketClient) -> None:
        if self._subscribed.is_set():
            self._notes.note()
        self._subscribed.clear()
        self._drainage = None
        if self._arrivals.end():
            self._fruitless += 1
        client.close()

    def _explain_end(self, client: PacketClient) -> None:
        """Record why the client's connection ended, as far as the client knows."""
        if client.code == SESSION_TAKEN_OVER and self._client_id() != self._session:
            self._explain(self._lost)
        elif client.code == SESSION_TAKEN_OVER:
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

    @property
    def _lost(self) -> str:
        return f"Another receiver has taken over the session at the broker {self._broker}"

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
        self._was_accepted = True
        self._notes.begin(grant)
        connection = self._arrivals.connection
        if connection is None:
            return
        if self._topic_filter.startswith(SHARED) and not grant.has_shared_subscriptions:
            self._give_up()
            return
        if not grant.admits(subscribe_size(self._topic_filter)):
            limit = grant.maximum_packet_size
            self._explain(
                f"The broker {self._broker} takes packets of at most {limit} bytes, too few for our subscription"
            )
            connection.disconnect()
            return
        connection.subscribe(self._topic_filter, QOS_AT_LEAST_ONCE)

    def _on_subscribed(self, codes: tuple[int, ...]) -> None:
        if codes[0] >= FIRST_FAILURE:
            if codes[0] == NO_SHARED_SUBSCRIPTIONS:
                self._give_up()
                return
            refusal = explain(self._broker, PacketTypes.SUBACK, codes[0])
            self._explain(f"The broker {self._broker} refuses the subscription: {refusal}")
            if self._arrivals.connection is not None:
                self._arrivals.connection.disconnect()
            return
        if codes[0] < QOS_AT_LEAST_ONCE:
            _LOG.warning(
                "The broker %s delivers at most once: messages in flight are lost when the connection breaks",
                self._broker,
            )
        self._outage.end()
        self._subscribed.set()
        _LOG.info("MQTT subscription active.")

    def _give_up(self) -> None:
        """End the thread in `run`: a subscription of another kind would get every message, not its share."""
        hint = hint_for_reason(self._broker, PacketTypes.SUBACK, NO_SHARED_SUBSCRIPTIONS)
        self._unsupported = TransportError(f"the broker {self._broker} has no shared subscriptions", hint)
        self._is_explained = True
        if self._arrivals.connection is not None:
            self._arrivals.connection.disconnect()

    def _on_unsubscribed(self, codes: tuple[int, ...]) -> None:
        if self._drainage is not None:
            self._drainage.note_answer(codes)
