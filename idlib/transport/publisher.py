"""Publishes messages, waits for the broker's acknowledgement of each, and reconnects if the connection breaks."""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from idlib.errors import IdlibError, MessageError, NoSubscriberError, RefusedMessageError, TransportError
from idlib.settings import MqttVersion
from idlib.system.backoff import Backoff
from idlib.system.failure_log import FailureLog
from idlib.system.uninterrupted import uninterrupted, wait_interruptibly
from idlib.transport.broker import Broker
from idlib.transport.client import Handlers, PacketClient, ignore
from idlib.transport.connection import (
    CONNECT_TIMEOUT_SECONDS,
    LEAVE_SECONDS,
    LOOP_SECONDS,
    QOS_AT_LEAST_ONCE,
    SESSION_TAKEN_OVER,
    Connector,
    Explanation,
    disconnect,
    explain,
    explain_end,
    new_client_id_at,
    subscribe_size,
)
from idlib.transport.hints import hint_for_ended_connections, hint_for_no_subscriber, hint_for_silence
from idlib.transport.inquiry import Inquiry
from idlib.transport.packets import MAX_PACKET_BYTES, Connack, Publish
from idlib.transport.publication import FIRST_FAILURE, Publication, is_dropped
from idlib.transport.session import Grant
from idlib.transport.session_owner import Owner, OwnerCheck
from idlib.transport.topics import is_same_topic

_LOG = logging.getLogger(__name__)

_SHORTEST_RECONNECT_SECONDS: Final = 1.0
_LONGEST_RECONNECT_SECONDS: Final = 8.0
# How long it may take to find out if the broker identifies clients by their ids.
_INQUIRY_SECONDS: Final = 5.0
# How many messages may be unacknowledged at a time, even if the broker allows more.
MAX_INFLIGHT: Final = 20
# After this many connections in a row that broke without progress, the messages are the likely cause.
_MAX_FRUITLESS: Final = 2


class Publisher:
    """A session at the broker for publishing, used as a context manager.

    Messages that are unacknowledged when the connection is lost are sent again after a reconnect.

    A broker that identifies clients by something other than the client id, such as the user name, may give us the
    session of another program, with the messages queued in it. We must leave such a session unchanged. So we connect
    without a clean start, and we acknowledge messages in a session, or end it, only if we created it:

    - With MQTT 5 it is ours if the broker reports that there was none before. If it reports one after a reconnect,
      another program may have taken ours over in the meantime. A connection under another client id then shows if the
      broker identifies clients by their ids.
    - With MQTT 3.1.1 each connection is made twice: first to check that there is no session, and then with a
      clean session, which ends together with the connection.

    Args:
        broker: The broker.
        timeout: How long the broker may take to accept the connection, and to acknowledge, in seconds.
        max_heard: Bytes of the largest payload that the listener accepts.
        outage: Logs that the connection is lost; by default one for this object.
    """

    def __init__(self, broker: Broker, timeout: float, max_heard: int = 0, outage: FailureLog | None = None) -> None:
        self._broker = broker
        self._timeout = timeout
        self._outage = FailureLog(_LOG) if outage is None else outage
        self._client_id = new_client_id_at(broker)
        self._connector = Connector(
            broker,
            self._client_id,
            Handlers(self._on_connected, self._on_subscribed, self._on_published, self._on_acknowledged),
            max_payload=max_heard,
            receive_maximum=MAX_INFLIGHT,
            timeout=min(CONNECT_TIMEOUT_SECONDS, timeout),
            session_expiry=broker.session_expiry if broker.version is MqttVersion.V5 else None,
            is_size_announced=False,
        )
        self._leaving = threading.Event()
        # Set when the broker has accepted the first connection, or has failed to.
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._client = self._connector.new_client()
        # What the broker granted to the last connection that it accepted.
        self._grant: Grant | None = None
        self._is_connected = False
        # Whether the session of that connection is certainly ours, so that we may acknowledge its messages and end it.
        self._is_own = False
        self._owner_check = OwnerCheck(broker)
        # Connections in a row that broke without an acknowledgement although messages were in flight.
        self._fruitless = 0
        # The reason that the broker gave for ending the last connection, if any.
        self._said: Explanation | None = None
        # Why nothing can be published through this session any more.
        self._end: TransportError | None = None
        self._under_way: dict[int, Publication] = {}
        self._unsent: deque[Publication] = deque()
        self._has_progressed = False
        self._topic: str | None = None
        self._hear: Callable[[bytes], None] = ignore
        self._subscribed = threading.Event()
        self._subscribe_codes: tuple[int, ...] = ()
        self._thread = threading.Thread(target=self._run, name="Publisher", daemon=True)

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            TransportError: The broker was not reached, refused, takes no QoS 1, or did not answer in time.
        """
        deadline = time.monotonic() + self._timeout
        self._client = self._open()
        self._thread.start()
        if not wait_interruptibly(self._answered.wait, max(0.0, deadline - time.monotonic())):
            self.__exit__()
            silence = Explanation(f"no answer within {self._timeout:g} s", hint_for_silence(self._broker))
            raise self._not_accepted(silence)
        if self._end is not None:
            self.__exit__()
            raise self._end
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        with self._lock:
            ends = self._is_connected and self._is_own and self._end is None
            disconnect(self._client, self._broker.version, ends=ends)
        # Do not wait for a connection that is being made or no longer accepts data.
        self._thread.join(LEAVE_SECONDS)
        is_left = not ends and self._grant is not None and self._end is None
        if is_left and self._broker.version is MqttVersion.V5:
            self._end_left_session()

    @property
    def window(self) -> int:
        """How many messages may be unacknowledged at a time."""
        return MAX_INFLIGHT if self._grant is None else min(self._grant.receive_maximum, MAX_INFLIGHT)

    @property
    def has_ended(self) -> bool:
        """Whether nothing can be published through this session any more, also not after a reconnect."""
        return self._end is not None

    def listen(self, topic: str, hear: Callable[[bytes], None]) -> None:
        """Receive what is published to a topic from now on, except while there is no connection.

        Args:
            topic: What to subscribe to.
            hear: Called with each payload from the thread that runs the session; must not block.

        Raises:
            TransportError: The broker refused, or did not answer in time.
        """
        with self._lock:
            self._topic, self._hear = topic, hear
            if self._grant is not None and not self._grant.admits(subscribe_size(topic)):
                raise TransportError(
                    f"the broker {self._broker} takes packets of at most {self._grant.maximum_packet_size} bytes,"
                    f" too few for a subscription to {topic}",
                    "use another broker, or raise this one's packet size limit",
                )
            self._client.subscribe(topic, QOS_AT_LEAST_ONCE)
        what = f"the broker {self._broker} did not accept a subscription to {topic}"
        if not wait_interruptibly(self._subscribed.wait, self._timeout):
            raise TransportError(f"{what}: no answer within {self._timeout:g} s{self._cause()}")
        if self._subscribe_codes[0] >= FIRST_FAILURE:
            refusal = explain(self._broker, PacketTypes.SUBACK, self._subscribe_codes[0])
            raise TransportError(f"{what}: {refusal.fact}", refusal.hint)

    def publish(self, topic: str, payload: bytes, lifetime: int) -> Publication:
        """Publish a message, without waiting for the broker.

        Args:
            topic: Where to publish.
            payload: What to publish.
            lifetime: After how many seconds the broker may drop it; only MQTT 5 can transmit this.

        Raises:
            MessageError: The broker has announced that it accepts no packet of that size.
        """
        publication = Publication(topic, payload, lifetime)
        with uninterrupted(), self._lock:
            if (error := self._objection(publication)) is not None:
                raise error
            self._unsent.append(publication)
            self._fill_window()
        return publication

    def withdraw(self, publication: Publication) -> None:
        """Do not send a message any more, unless it was sent over the present connection already.

        Args:
            publication: From `publish`.
        """
        with self._lock, contextlib.suppress(ValueError):
            self._unsent.remove(publication)

    def wait(self, publication: Publication, timeout: float | None = None) -> None:
        """Return when the broker has acknowledged the message.

        Args:
            publication: From `publish`.
            timeout: How long the broker may take, in seconds; None for the time that this session was created with.

        Raises:
            RefusedMessageError: It refused the message.
            NoSubscriberError: It has no subscriber for the message; only MQTT 5, and not every broker, reports that.
            MessageError: It has announced, after a reconnect, that it accepts no packet of that size.
            TransportError: It did not acknowledge it in time, or takes no messages that it acknowledges.
        """
        patience = self._timeout if timeout is None else timeout
        if not wait_interruptibly(publication.is_answered_within, patience):
            raise TransportError(
                f"the broker {self._broker} did not acknowledge the message within {patience:g} s"
                f"{self._doubt(publication)}",
                "it may or may not be delivered; send it again to be sure",
            )
        code = publication.code
        if not is_dropped(code):
            return
        if code >= FIRST_FAILURE:
            refusal = explain(self._broker, PacketTypes.PUBACK, code)
            raise RefusedMessageError(f"the broker {self._broker} refuses the message: {refusal.fact}", refusal.hint)
        raise NoSubscriberError(
            f"the broker {self._broker} has no subscriber for {publication.topic}",
            hint_for_no_subscriber(self._broker),
        )

    def _end_left_session(self) -> None:
        """End the session that a lost connection left behind, unless it may now belong to another program."""
        try:
            with Inquiry(self._broker, self._client_id, LEAVE_SECONDS) as inquiry:
                is_present = inquiry.ask()
                if is_present is False or (is_present and self._owner_check.find(LEAVE_SECONDS) is Owner.US):
                    inquiry.end()
        except TransportError as error:
            _LOG.debug("the session at %s is not ended: %s", self._broker, error)

    def _doubt(self, publication: Publication) -> str:
        """Return the possible reason why a message is not acknowledged, as the end of an error."""
        with self._lock:
            if self._fruitless < _MAX_FRUITLESS:
                return self._cause()
            # If the broker does not accept one of them, it ends the connection for all.
            largest = max(each.size for each in (publication, *self._under_way.values(), *self._unsent))
            why = self._said or hint_for_ended_connections(self._broker, largest)
            return f", and ended the connection each time instead: {why}"

    def _cause(self) -> str:
        return f": {self._outage.cause}" if self._outage.cause else ""

    def _run(self) -> None:
        """Keep the connection until it is no longer needed, and reconnect whenever it is lost."""
        backoff = Backoff(_SHORTEST_RECONNECT_SECONDS, _LONGEST_RECONNECT_SECONDS)
        is_connected = True
        while True:
            if is_connected:
                end = self._run_connection()
                if self._client.code == SESSION_TAKEN_OVER:
                    self._give_up(self._foreign("has given our session to another client"))
                if self._leaving.is_set() or self._end is not None:
                    return
                if self._grant is None:
                    self._give_up(self._not_accepted(end))
                    return
                self._outage.begin(f"The connection to the broker {self._broker} is lost: {end}")
            if self._has_progressed:
                backoff.reset()
                self._has_progressed = False
            if self._leaving.wait(backoff.next_pause()):
                return
            is_connected = self._reconnect()
            if self._end is not None:
                return

    def _reconnect(self) -> bool:
        try:
            client = self._open()
        except TransportError:
            # Already logged when the connection was lost.
            return False
        with self._lock:
            self._client = client
            # `__exit__` may have disconnected the previous client in the meantime.
            if self._leaving.is_set():
                return self._abandon(client)
        return True

    def _abandon(self, client: PacketClient) -> bool:
        """Abandon a connection that was made while we leave; return whether it must be run until it ends."""
        if self._broker.version is MqttVersion.V5:
            # It has sent no CONNECT yet, so it starts no session.
            client.close()
            return False
        # Its clean session ends the session of the previous connection.
        client.disconnect()
        return True

    def _open(self) -> PacketClient:
        """Return a client for a connection that the broker has not accepted yet, and over which nothing was sent yet.

        Raises:
            TransportError: The broker was not reached; or, with MQTT 3.1.1, does not accept connections, or has a
                session that is not ours.
        """
        if self._broker.version is MqttVersion.V5:
            client = self._connector.new_client()
            self._connector.connect(client)
            return client
        # With a new client id, there cannot be a session that an earlier attempt of ours left behind.
        client_id = new_client_id_at(self._broker)
        self._connector.use_client_id(client_id)
        client = self._connector.new_client()
        with Inquiry(self._broker, client_id, self._timeout) as inquiry:
            is_present = inquiry.ask()
            if is_present:
                error = self._foreign("answered with a session that is not ours")
                self._give_up(error)
                raise error
            if is_present is None:
                raise self._not_accepted(inquiry.end_of_connection())
            self._connector.connect(client)
            # Another client may have taken over the session in the meantime, and a clean session would end it.
            if not inquiry.is_connected():
                client.close()
                raise self._not_accepted(inquiry.end_of_connection())
        return client

    def _run_connection(self) -> Explanation:
        """Run the connection until it ends; return the reason."""
        client = self._client
        try:
            while client.loop(LOOP_SECONDS) == MQTT_ERR_SUCCESS:
                if self._leaving.is_set() and not client.want_write():
                    break
        except Exception as error:  # noqa: BLE001  # an error below us must not end the thread
            _LOG.exception("The connection to the broker %s broke", self._broker)
            client.failure = str(error)
        with self._lock:
            self._is_connected = False
            if self._has_progressed:
                self._fruitless = 0
            elif self._under_way:
                self._fruitless += 1
            # Unacknowledged messages are sent first on the next connection.
            self._unsent.extendleft(reversed(self._under_way.values()))
            self._under_way.clear()
            client.close()
            end = explain_end(self._broker, client, hint_for_silence(self._broker) if self._grant is None else "")
            self._said = end if client.code else None
        return end

    def _on_connected(self, connack: Connack) -> None:
        grant = Grant.from_connack(self._broker.version, 0, connack.properties, is_kept=connack.is_session_present)
        _LOG.debug("connected to %s: %s", self._broker, grant)
        owner = self._owner_of(grant)
        if (error := self._unacceptable(grant, owner)) is not None:
            self._give_up(error)
            disconnect(self._client, self._broker.version, ends=owner is Owner.US)
            return
        with self._lock:
            self._grant, self._is_connected, self._is_own = grant, True, owner is Owner.US
            if self._topic is not None and grant.admits(subscribe_size(self._topic)):
                self._client.subscribe(self._topic, QOS_AT_LEAST_ONCE)
            self._fill_window()
        self._outage.end()
        self._answered.set()

    def _owner_of(self, grant: Grant) -> Owner:
        """Return who created the session of a new connection."""
        if grant.assigned_client_id is not None:
            return Owner.ANOTHER
        if not grant.is_kept:
            return Owner.US
        if self._grant is None or self._broker.version is MqttVersion.V311:
            # A client that has no session must not continue one (MQTT 5, section 3.2.2.1.1).
            return Owner.ANOTHER
        return self._owner_check.find(_INQUIRY_SECONDS, self._leaving)

    def _unacceptable(self, grant: Grant, owner: Owner) -> TransportError | None:
        """Return why we cannot publish under what the broker grants, or None."""
        if owner is Owner.ANOTHER:
            said = "a client id other than ours" if grant.assigned_client_id else "a session that is not ours"
            return self._foreign(f"answered with {said}")
        if grant.maximum_qos < QOS_AT_LEAST_ONCE:
            return TransportError(
                f"the broker {self._broker} does not accept QoS 1, so it acknowledges no messages;"
                " nothing was delivered",
                "use another broker, or configure this one to accept QoS 1",
            )
        return None

    def _foreign(self, said: str) -> TransportError:
        """Return the error that the broker gave us another program's session, or gave ours to another program."""
        consequence = "nothing was delivered"
        if self._grant is not None:
            consequence = "messages that it has not acknowledged may or may not be delivered"
        return TransportError(
            f"the broker {self._broker} {said}; {consequence}, and that session was left unchanged",
            "the broker uses the user name as the client id: turn that off there (Mosquitto:"
            " use_username_as_clientid), or give each program a user name of its own",
        )

    def _on_subscribed(self, codes: tuple[int, ...]) -> None:
        self._subscribe_codes = codes
        self._subscribed.set()

    def _on_published(self, message: Publish) -> None:
        if self._grant is None or self._end is not None:
            # The message stays queued for the owner of a session that we leave.
            return
        if message.topic and (self._topic is None or not is_same_topic(message.topic, self._topic)):
            # It matches a subscription of another program.
            self._give_up(self._foreign("sent messages of a session that is not ours"))
            disconnect(self._client, self._broker.version, ends=False)
            return
        if message.qos and self._is_own:
            self._client.acknowledge(message.packet_id, message.qos)
        if message.refusal is None:
            self._hear(message.payload)

    def _on_acknowledged(self, packet_id: int, code: int) -> None:
        with self._lock:
            publication = self._under_way.pop(packet_id, None)
            self._has_progressed = True
            self._fill_window()
        if publication is not None:
            publication.answer.set_result(code)

    def _fill_window(self) -> None:
        """Send as many waiting messages as the connection accepts (MQTT 5, section 4.9); called with the lock held."""
        while self._is_connected and self._unsent and len(self._under_way) < self.window:
            publication = self._unsent.popleft()
            error = self._objection(publication)
            if error is None:
                self._under_way[self._send(publication)] = publication
            else:
                publication.answer.set_exception(error)

    def _send(self, publication: Publication) -> int:
        properties = None
        if self._broker.version is MqttVersion.V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # as paho has it
            properties.MessageExpiryInterval = publication.lifetime
        return self._client.publish(
            publication.topic, publication.payload, QOS_AT_LEAST_ONCE, retain=False, properties=properties
        ).mid

    def _objection(self, publication: Publication) -> IdlibError | None:
        """Return why a message cannot be sent through this session, or None."""
        if self._end is not None:
            return self._end
        granted = None if self._grant is None else self._grant.maximum_packet_size
        limit = MAX_PACKET_BYTES if granted is None else min(granted, MAX_PACKET_BYTES)
        if publication.size <= limit:
            return None
        # The broker would end the connection, and with it all messages in flight (MQTT 5, section 3.2.2.3.6).
        return MessageError(
            f"the message is too large: {publication.size} bytes as a packet,"
            f" and the limit of the broker {self._broker} is {limit}",
            "shorten it, or use another broker",
        )

    def _give_up(self, error: TransportError) -> None:
        with self._lock:
            self._end = error
            left = [*self._under_way.values(), *self._unsent]
            self._under_way.clear()
            self._unsent.clear()
        for publication in left:
            publication.answer.set_exception(error)
        self._answered.set()

    def _not_accepted(self, why: Explanation) -> TransportError:
        return TransportError(f"the broker {self._broker} did not accept the connection: {why.fact}", why.hint)
