"""Takes what the session of a receiver that is gone still has, and ends it."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from paho.mqtt.client import MQTT_ERR_SUCCESS
from paho.mqtt.packettypes import PacketTypes

from idlib.errors import TransportError
from idlib.transport.arrivals import Arrivals, Delivery, ReceivedPacket
from idlib.transport.broker import Broker
from idlib.transport.client import Handlers, ignore, reason_name
from idlib.transport.connection import LOOP_SECONDS, Connector, explain_end, leave
from idlib.transport.drainage import Drainage
from idlib.transport.packets import Connack

# Fewer than for the receiver's own session, because several are drained at a time.
DRAIN_RECEIVE_MAXIMUM: Final = 32
_QUIET_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 30.0


class SessionDrain:
    """A connection that continues a session, unsubscribes, takes what is left in it, and ends it; needs MQTT 5.

    Args:
        broker: Where the session is.
        client_id: Its name.
        topic_filters: What it has subscribed to, and then what it may have subscribed to.
        session_expiry: For how many seconds the broker is asked to keep it if the connection breaks.
        max_message_size: Bytes of the largest message that is accepted.
        deliver: Called with each message from the thread that runs the connection; may block to hold the broker back.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        topic_filters: Sequence[str],
        session_expiry: int,
        max_message_size: int,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self._broker = broker
        self._topic_filters = topic_filters
        self._arrivals = Arrivals(max_message_size, deliver)
        self._connector = Connector(
            broker,
            client_id,
            Handlers(self._on_connected, ignore, self._arrivals.take, ignore, self._on_unsubscribed),
            max_payload=max_message_size,
            receive_maximum=DRAIN_RECEIVE_MAXIMUM,
            session_expiry=session_expiry,
        )
        self._drainage: Drainage | None = None

    def settle(self, packets: Sequence[ReceivedPacket]) -> None:
        """Acknowledge messages of this session in their turn; does nothing with messages of another one.

        Args:
            packets: The packets of messages that are printed, refused or stored for good.
        """
        self._arrivals.settle(packets)

    def run(self, may_continue: Callable[[], bool]) -> bool:
        """Drain the session, and return whether it has ended; if not, it is kept with what is not settled.

        Args:
            may_continue: Returns whether the session may still be used; asked several times a second.

        Raises:
            TransportError: The broker was not reached, does not answer, ended the connection, or keeps the
                subscription.
        """
        # What was found out over an earlier connection does not count.
        self._drainage = None
        client = self._connector.new_client()
        silent_seconds = 0.0
        try:
            self._connector.connect(client)
            self._arrivals.begin(client)
            while may_continue():
                began_at = time.monotonic()
                if client.loop(LOOP_SECONDS) != MQTT_ERR_SUCCESS:
                    end = explain_end(self._broker, client)
                    raise TransportError(f"the connection to the broker {self._broker} is lost: {end.fact}", end.hint)
                # Not longer than the wait for packets: the rest is the time in which we held the broker back.
                silent_seconds += min(time.monotonic() - began_at, LOOP_SECONDS)
                if self._is_answered:
                    silent_seconds = 0.0
                elif silent_seconds >= _ANSWER_SECONDS:
                    raise TransportError(f"the broker {self._broker} does not answer")
                if self._is_drained():
                    leave(client, self._broker.version, ends=True)
                    return True
            leave(client, self._broker.version, ends=False)
            return False
        finally:
            self._arrivals.end()
            client.close()

    @property
    def _is_answered(self) -> bool:
        return self._drainage is not None and self._drainage.is_answered

    def _is_drained(self) -> bool:
        if self._drainage is None:
            return False
        if self._drainage.refusal is not None:
            said = reason_name(PacketTypes.UNSUBACK, self._drainage.refusal)
            hint = "allow this device at the broker to end its subscription"
            raise TransportError(f"the broker {self._broker} does not end the subscription: {said}", hint)
        return self._drainage.is_complete()

    def _on_connected(self, _connack: Connack) -> None:
        if self._arrivals.connection is not None:
            self._drainage = Drainage(self._arrivals.connection, self._topic_filters, self._arrivals, _QUIET_SECONDS)

    def _on_unsubscribed(self, codes: tuple[int, ...]) -> None:
        if self._drainage is not None:
            self._drainage.note_answer(codes)
