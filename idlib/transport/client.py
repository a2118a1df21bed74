"""One connection to the broker: the MQTT library's client, with our own parser of packets."""

import contextlib
import re
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from idlib.errors import MalformedPacketError, Reason, Refusal
from idlib.settings import MqttVersion
from idlib.transport.packets import (
    Connack,
    Packet,
    PacketReader,
    PacketType,
    Publish,
    Remarks,
    read_acknowledgement,
    read_connack,
    read_publish,
    read_remarks,
    read_suback,
    read_unsuback,
)
from idlib.transport.session import ConnackProperty

# If a device's address changes, the broker and the device notice within half a minute that the connection is dead.
KEEPALIVE_SECONDS: Final = 30
_PORTION_BYTES: Final = 65536
_MAX_UNREADABLE: Final = 64
# Without a reason code, which means success in both versions (MQTT 5, section 3.4.2.1).
_PUBACK: Final = struct.Struct("!BBH")
_IDENTIFIER_BYTES: Final = 2
# The line in the source of Python's OpenSSL wrapper: of no use to a user.
_PLACE_IN_SOURCE: Final = re.compile(r"^_ssl\.c:[0-9]+: | \(_ssl\.c:[0-9]+\)")

# The return codes of MQTT 3.1.1, section 3.2.2.3, as reason codes of MQTT 5.
_RETURN_CODES: Final = {1: 132, 2: 133, 3: 136, 4: 134, 5: 135}


_INVALID_FORMAT: Final = 153


class UnreadablePackets:
    """Which PUBLISH packets could not even be acknowledged, and so ended a connection; kept across connections."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def is_known(self, packet: Packet) -> bool:
        """Return whether a packet has ended a connection before, and remember it.

        Args:
            packet: A packet that our parser raised an exception for.
        """
        is_known = packet.digest in self._digests
        self._digests[packet.digest] = None
        if len(self._digests) > _MAX_UNREADABLE:
            self._digests.popitem(last=False)
        return is_known


def ignore(*_: object) -> None:
    """Do nothing: a handler for packets of no interest."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Callbacks for the broker's packets, called by the thread that runs the connection.

    Args:
        connected: The broker accepts the connection.
        subscribed: It answers a subscription, with a reason code for each topic.
        published: It delivers a message.
        acknowledged: It acknowledges a message, with its packet identifier and a reason code.
        unsubscribed: It answers the end of a subscription, with a reason code for each topic.
    """

    connected: Callable[[Connack], None]
    subscribed: Callable[[tuple[int, ...]], None]
    published: Callable[[Publish], None]
    acknowledged: Callable[[int, int], None]
    unsubscribed: Callable[[tuple[int, ...]], None] = ignore


class PacketClient(Client):
    """A client for one connection, whose packets only `idlib.transport.packets` parses.

    Args:
        version: The version of MQTT.
        client_id: The session's name at the broker.
        is_session_kept: Whether the session outlives the connection.
        max_publish_size: Bytes of the largest PUBLISH that is held in memory.
        unreadable: The packets that ended previous connections.
        handlers: The callbacks.
        dial: Returns a new connection to the broker.
    """

    def __init__(
        self,
        version: MqttVersion,
        client_id: str,
        handlers: Handlers,
        *,
        is_session_kept: bool,
        max_publish_size: int,
        unreadable: UnreadablePackets,
        dial: Callable[[], object],
    ) -> None:
        is_version_5 = version is MqttVersion.V5
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            # With MQTT 5, CONNECT says whether to start a new session.
            clean_session=None if is_version_5 else not is_session_kept,
            protocol=MQTTProtocolVersion.MQTTv5 if is_version_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.failure: str | None = None
        # The exception that `failure` describes, if there was one.
        self.error: Exception | None = None
        self.code: int | None = None
        # What the broker has added to the code.
        self.remarks = Remarks()
        self.is_refused = False
        self._version = version
        self._handlers = handlers
        self._reader = PacketReader(max_publish_size)
        self._unreadable = unreadable
        self._dial = dial
        self._has_connack = False
        self.on_disconnect = self._note_end
        # If this is set, the library leaves all writing to the thread that runs the connection.
        self.on_socket_register_write = ignore

    @property
    def is_answered(self) -> bool:
        """Whether the broker has accepted or refused the connection."""
        return self._has_connack

    @property
    def number_unacknowledged(self) -> int:
        """How many messages the broker has not acknowledged, or not got yet."""
        return len(self._out_messages)

    @property
    def is_within_publish(self) -> bool:
        """Whether a PUBLISH has begun to arrive."""
        return self._reader.is_within_publish

    def acknowledge(self, packet_id: int, qos: int) -> None:
        """Acknowledge a message; at QoS 2, which we never ask for, the broker then has to send PUBREL.

        Args:
            packet_id: The message's.
            qos: Its quality of service, 1 or 2.
        """
        if qos == 1:
            self.acknowledge_all((packet_id,))
        else:
            self._send_pubrec(packet_id)

    def acknowledge_all(self, packet_ids: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1, in this order.

        The packets are sent together: one at a time, each would take a system call, a packet of TCP and, over TLS, a
        record of its own.

        Args:
            packet_ids: The messages'; one or more.
        """
        packets = b"".join(_PUBACK.pack(PacketType.PUBACK, _IDENTIFIER_BYTES, number) for number in packet_ids)
        self._packet_queue(PacketType.PUBACK, packets, packet_ids[-1], 1)

    def wake(self) -> None:
        """End the wait of `loop`, which another thread runs, at once."""
        waker = self._sockpairW
        if waker is not None:
            # It is full, so that the wait ends anyway; or the other thread has closed it.
            with contextlib.suppress(OSError):
                waker.send(b"0")

    def close(self) -> None:
        """Close the connection's sockets; the client cannot be used afterwards."""
        self._reset_sockets()

    def _note(self, failure: str) -> None:
        """Record why the connection ends; only the first reason is kept, because it is the most specific."""
        self.failure = self.failure or failure

    def _note_error(self, error: OSError) -> None:
        if self.failure is None:
            self.error = error
        self._note(words_of(error))

    def _note_end(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._note(str(reason))

    def _create_socket(self) -> Any:
        return self._dial()

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            data = super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self._note_error(error)
            raise
        if not data:
            self._note("the broker closed the connection")
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        try:
            return super()._sock_send(buf)
        except BlockingIOError:
            raise
        except OSError as error:
            self._note_error(error)
            raise

    def _packet_read(self) -> MQTTErrorCode:
        try:
            data = self._sock_recv(_PORTION_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()
        try:
            for packet in self._reader.feed(data):
                status = self._take(packet)
                if status != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None:
                    return status
        except MalformedPacketError as error:
            self._note(error.fact)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _take(self, packet: Packet) -> MQTTErrorCode:
        if packet.type == PacketType.DISCONNECT:
            self._end(PacketTypes.DISCONNECT, packet.body[0] if packet.body else 0, packet.body, 1)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if self._has_connack == (packet.type == PacketType.CONNACK):
            raise MalformedPacketError(f"a packet of type {packet.type >> 4} came out of order")
        match packet.type:
            case PacketType.CONNACK:
                return self._take_connack(packet)
            case PacketType.PUBLISH:
                self._handlers.published(self._read_publish(packet))
            case PacketType.PUBACK:
                return self._take_puback(packet)
            case PacketType.PUBREL:
                # Completes what `acknowledge` began, perhaps on an earlier connection.
                return self.ack(read_acknowledgement(packet)[0], 2)
            case PacketType.SUBACK:
                self._handlers.subscribed(read_suback(packet, self._version))
            case PacketType.UNSUBACK:
                self._handlers.unsubscribed(read_unsuback(packet, self._version))
            case PacketType.PINGRESP:
                return self._hand_to_library(packet.header, b"")
            case _:
                # Answers to what we never send.
                pass
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _take_connack(self, packet: Packet) -> MQTTErrorCode:
        connack = read_connack(packet, self._version)
        self._has_connack = True
        if connack.code:
            # Brokers that do not speak MQTT 5 answer with the codes of MQTT 3.1.1.
            self.is_refused = True
            self._end(PacketTypes.CONNACK, _RETURN_CODES.get(connack.code, connack.code), packet.body, 2)
            return MQTTErrorCode.MQTT_ERR_CONN_REFUSED
        status = self._hand_to_library(packet.header, self._accepting_connack(connack))
        self._handlers.connected(connack)
        return status

    def _accepting_connack(self, connack: Connack) -> bytes:
        """Return a CONNACK for the library with nothing in it but the session flag and the keep alive."""
        body = bytes([connack.is_session_present, 0])
        if self._version is MqttVersion.V311:
            return body
        wanted = connack.properties.get(ConnackProperty.SERVER_KEEP_ALIVE)
        # A shorter interval is always allowed (MQTT 5, section 3.1.2.10), and shows sooner that a connection is dead.
        seconds = min(wanted, KEEPALIVE_SECONDS) if isinstance(wanted, int) and wanted else KEEPALIVE_SECONDS
        return body + bytes([3, ConnackProperty.SERVER_KEEP_ALIVE]) + seconds.to_bytes(2)

    def _take_puback(self, packet: Packet) -> MQTTErrorCode:
        packet_id, code = read_acknowledgement(packet)
        is_ours = packet_id in self._out_messages
        status = self._hand_to_library(packet.header, packet.body[:2])
        if is_ours:
            self._handlers.acknowledged(packet_id, code)
        return status

    def _read_publish(self, packet: Packet) -> Publish:
        try:
            return read_publish(packet, self._version)
        except Exception as error:
            # Without a packet identifier it cannot be acknowledged. On a new connection it may arrive intact. If it
            # does not, it is skipped, because ending every connection at it would block all other messages.
            if not self._unreadable.is_known(packet):
                raise MalformedPacketError(str(error)) from error
            return Publish(0, 0, b"", Refusal(Reason.TRANSPORT_MALFORMED, str(error)))

    def _hand_to_library(self, header: int, body: bytes) -> MQTTErrorCode:
        """Pass a packet that we have built ourselves to the library."""
        self._in_packet["command"] = header
        self._in_packet["packet"] = bytearray(body)
        self._in_packet["remaining_length"] = len(body)
        return super()._packet_handle()

    def _end(self, packet_type: int, code: int, body: bytes, begin: int) -> None:
        self.code = code
        self.remarks = Remarks() if self._version is MqttVersion.V311 else read_remarks(body, begin)
        self._note(reason_name(packet_type, code))


def reason_name(packet_type: int, code: int) -> str:
    """Return the meaning of a reason code as text.

    Args:
        packet_type: One of the library's `PacketTypes`.
        code: Any that a broker may write.
    """
    try:
        return str(ReasonCode(packet_type, identifier=code))
    except (KeyError, ValueError):
        # The library lacks it: MQTT 5, section 3.2.2.2, allows it in CONNACK too.
        return "Payload format invalid" if code == _INVALID_FORMAT else f"reason code {code}"


def words_of(error: Exception) -> str:
    """Return an error's text without its place in Python's source.

    Args:
        error: Of the socket, of TLS, or of name resolution.
    """
    return _PLACE_IN_SOURCE.sub("", str(error))
