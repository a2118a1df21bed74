"""The messages that arrive in a session, and their acknowledgement in the order of receipt."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from idlib.errors import Reason, Refusal
from idlib.transport.client import PacketClient
from idlib.transport.packets import Publish


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


class Arrivals:
    """Hands over the messages of a session's connections, one after another, and acknowledges them. Thread-safe.

    Args:
        max_message_size: Bytes of the largest message that is accepted; a larger one is delivered as a refusal.
        deliver: Called with each message from the thread that runs the connection; may block to hold the broker back.
    """

    def __init__(self, max_message_size: int, deliver: Callable[[Delivery], None]) -> None:
        self._max_message_size = max_message_size
        self._deliver = deliver
        self._lock = threading.Lock()
        self._connection: PacketClient | None = None
        self._unacknowledged: deque[ReceivedPacket] = deque()
        self._settled: set[ReceivedPacket] = set()
        self._has_progressed = False
        self._moved_at = 0.0

    @property
    def connection(self) -> PacketClient | None:
        """The present connection; None if there is none."""
        return self._connection

    @property
    def is_settled(self) -> bool:
        """Whether every message that has arrived over the present connection is acknowledged."""
        # Not while a message is being acknowledged.
        with self._lock:
            return not self._unacknowledged

    @property
    def moved_at(self) -> float:
        """When a message arrived or was acknowledged last, on the monotonic clock."""
        return self._moved_at

    def begin(self, connection: PacketClient) -> None:
        """Begin with a new connection.

        Args:
            connection: Its client.
        """
        with self._lock:
            self._connection = connection

    def end(self) -> bool:
        """End with the connection; return whether it has acknowledged nothing although messages were under way."""
        with self._lock:
            connection, self._connection = self._connection, None
            is_under_way = bool(self._unacknowledged) or (connection is not None and connection.is_within_publish)
            is_fruitless, self._has_progressed = is_under_way and not self._has_progressed, False
            self._unacknowledged.clear()
            self._settled.clear()
        return is_fruitless

    def wake(self) -> None:
        """Let the thread that runs the connection look at once whether it has something else to do."""
        with self._lock:
            if self._connection is not None:
                self._connection.wake()

    def take(self, message: Publish) -> None:
        """Hand over a message of the present connection.

        Args:
            message: Its PUBLISH.
        """
        payload, refusal = message.payload, message.refusal
        if refusal is None and len(payload) > self._max_message_size:
            # Do not keep the payload: a window of such messages would take more memory than all others together.
            fact = f"{len(payload)} bytes are more than {self._max_message_size}"
            payload, refusal = b"", Refusal(Reason.OVERSIZED, fact)
        packet = ReceivedPacket(self._connection, message.packet_id, message.qos)
        self._moved_at = time.monotonic()
        if packet.qos:
            with self._lock:
                self._unacknowledged.append(packet)
        self._deliver(Delivery(payload, time.time(), packet, refusal))

    def settle(self, packets: Sequence[ReceivedPacket]) -> bool:
        """Allow messages to be acknowledged as soon as all earlier ones are (MQTT 5, section 4.6).

        A message of another connection is not acknowledged: the broker sends it again.

        Args:
            packets: The packets of messages that are printed, refused or stored for good.

        Returns:
            Whether something was acknowledged.
        """
        with self._lock:
            if self._connection is None:
                return False
            self._settled.update(one for one in packets if one.qos and one.connection is self._connection)
            finished: list[ReceivedPacket] = []
            while self._unacknowledged and self._unacknowledged[0] in self._settled:
                finished.append(self._unacknowledged.popleft())
            if not finished:
                return False
            self._settled.difference_update(finished)
            _acknowledge(self._connection, finished)
            self._has_progressed, self._moved_at = True, time.monotonic()
            return True


def _acknowledge(connection: PacketClient, packets: Sequence[ReceivedPacket]) -> None:
    if together := [one.packet_id for one in packets if one.qos == 1]:
        connection.acknowledge_all(together)
    for one in packets:
        if one.qos == 2:
            connection.acknowledge(one.packet_id, one.qos)
