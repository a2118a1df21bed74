"""Parses the packets that a broker sends, and in each only the fields that we use.

A broker forwards packets that strangers have written, so nothing in them may cause an unexpected exception, take more
time than its size justifies, or take unbounded memory. Sources:
MQTT 5, https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html;
MQTT 3.1.1, https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from idlib.errors import MalformedPacketError, Reason, Refusal
from idlib.settings import MqttVersion
from idlib.transport.session import ConnackProperty

# MQTT 5, section 1.5.5: the largest value of a variable byte integer, and of a packet the type and 4 bytes of length.
MAX_REMAINING_LENGTH: Final = 268_435_455
MAX_PACKET_BYTES: Final = MAX_REMAINING_LENGTH + 5
# Room for topic, properties and headers; a payload that is too large by less than this is refused with a log line.
OVERHEAD_BYTES: Final = 65536
# Other packets are larger only because of texts that we do not read.
MAX_CONTROL_BYTES: Final = 262_144
# Enough to include the packet identifier after the longest topic.
_HEAD_BYTES: Final = 2 + 65535 + 2
_MAX_VARIABLE_BYTES: Final = 4

_BYTES: Final = frozenset({0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A})
_TWO_BYTES: Final = frozenset({0x13, 0x21, 0x22, 0x23})
_FOUR_BYTES: Final = frozenset({0x02, 0x11, 0x18, 0x27})
_VARIABLE: Final = frozenset({0x0B})
_TEXTS: Final = frozenset({0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F})
_SERVER_REFERENCE: Final = 0x1C
_REASON_STRING: Final = 0x1F
_MAX_REMARK_CHARACTERS: Final = 200
_PAIR: Final = 0x26
_QOS_3: Final = 3
_TLS_ALERT: Final = 0x15


class PacketType(IntEnum):
    """The upper half of a packet's first byte (MQTT 5, section 2.1.2): what a broker may send."""

    CONNACK = 0x20
    PUBLISH = 0x30
    PUBACK = 0x40
    PUBREC = 0x50
    PUBREL = 0x60
    PUBCOMP = 0x70
    SUBACK = 0x90
    UNSUBACK = 0xB0
    PINGRESP = 0xD0
    DISCONNECT = 0xE0


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet.

    Args:
        header: Its first byte.
        body: The bytes after the length; of an oversized PUBLISH only enough to include its packet identifier.
        size: How many bytes the body has in all.
        is_oversized: Whether it is too large to be kept as a whole.
    """

    header: int
    body: bytes
    size: int
    is_oversized: bool

    @property
    def type(self) -> int:
        """The upper half of the first byte."""
        return self.header & 0xF0

    @property
    def digest(self) -> bytes:
        """A hash of the body, which is the same at each delivery, unlike the first byte."""
        return hashlib.sha256(self.size.to_bytes(4) + self.body).digest()


class PacketReader:
    """Splits the bytes from the broker into packets.

    Args:
        max_publish_size: Bytes of the largest PUBLISH that is kept as a whole; a larger one is skipped.
    """

    def __init__(self, max_publish_size: int) -> None:
        self._max_publish_size = max_publish_size
        self._header = bytearray()
        self._body = bytearray()
        self._room = 0
        self._is_oversized = False
        self._size: int | None = None
        self._number_read = 0

    @property
    def is_within_publish(self) -> bool:
        """Whether a PUBLISH has begun and is not complete."""
        return bool(self._header) and self._header[0] & 0xF0 == PacketType.PUBLISH

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that end within the next bytes.

        Args:
            data: Bytes as received, split anywhere.

        Raises:
            MalformedPacketError: No packet begins like that, or one that is not a PUBLISH is too large.
        """
        position = 0
        while position < len(data):
            if self._size is None:
                self._read_header(data[position])
                position += 1
            else:
                portion = data[position : position + self._size - self._number_read]
                position += len(portion)
                self._number_read += len(portion)
                self._body += portion[: self._room - len(self._body)]
            if self._size is not None and self._number_read == self._size:
                packet = Packet(self._header[0], bytes(self._body), self._size, self._is_oversized)
                self._header, self._body, self._size, self._number_read = bytearray(), bytearray(), None, 0
                yield packet

    def _read_header(self, byte: int) -> None:
        self._header.append(byte)
        if len(self._header) == 1:
            _check_first_byte(byte)
            return
        if not byte & 0x80:
            self._begin_body(_variable(self._header, 1)[0])
        elif len(self._header) > _MAX_VARIABLE_BYTES:
            raise MalformedPacketError("the length of a packet is malformed")

    def _begin_body(self, size: int) -> None:
        is_publish = self.is_within_publish
        if size > MAX_CONTROL_BYTES and not is_publish:
            raise MalformedPacketError(f"a packet of type {self._header[0] >> 4} has {size} bytes")
        self._size = size
        self._is_oversized = is_publish and len(self._header) + size > self._max_publish_size
        self._room = min(size, _HEAD_BYTES) if self._is_oversized else size


@dataclass(frozen=True, slots=True)
class Publish:
    """The fields of a PUBLISH packet that we use.

    Args:
        packet_id: The packet identifier for its acknowledgement; 0 at QoS 0.
        qos: 0 to 2.
        payload: What was published; empty if it is refused.
        refusal: Why the packet cannot be read further, or is too large.
        topic: Where it was published; empty if even that cannot be read.
        is_retained: Whether it was published before we subscribed, and the broker has kept it (section 3.3.1.3).
    """

    packet_id: int
    qos: int
    payload: bytes
    refusal: Refusal | None = None
    topic: bytes = b""
    is_retained: bool = False


def read_publish(packet: Packet, version: MqttVersion) -> Publish:
    """Return the fields of a PUBLISH that we use (MQTT 5, section 3.3); its properties are ignored.

    Args:
        packet: The packet.
        version: The version of MQTT.

    Raises:
        MalformedPacketError: It cannot even be acknowledged.
    """
    body, qos = packet.body, packet.header >> 1 & 3
    position = 2 + int.from_bytes(body[:2])
    topic = body[2:position]
    number = body[position : position + 2] if qos else b""
    position += len(number)
    if len(body) < 2 or position > len(body) or (qos and len(number) < 2):
        raise MalformedPacketError("a PUBLISH ends before its packet identifier")
    packet_id = int.from_bytes(number)
    if qos and not packet_id:
        raise MalformedPacketError("a PUBLISH has the packet identifier 0")
    if qos == _QOS_3:
        # The standard defines no acknowledgement for it; brokers accept a PUBACK for any packet identifier.
        return Publish(packet_id, 1, b"", Refusal(Reason.TRANSPORT_MALFORMED, "its PUBLISH has QoS 3"), topic)
    if packet.is_oversized:
        fact = f"its packet has {packet.size} bytes, more than any message may have"
        return Publish(packet_id, qos, b"", Refusal(Reason.OVERSIZED, fact), topic)
    try:
        begin = _after_properties(body, position) if version is MqttVersion.V5 else position
    except MalformedPacketError as error:
        return Publish(packet_id, qos, b"", Refusal(Reason.TRANSPORT_MALFORMED, error.fact), topic)
    return Publish(packet_id, qos, body[begin:], topic=topic, is_retained=bool(packet.header & 1))


@dataclass(frozen=True, slots=True)
class Connack:
    """The content of a CONNACK (MQTT 5, section 3.2).

    Args:
        is_session_present: Whether the broker has kept the session.
        code: Its reason code, or its return code in MQTT 3.1.1; 0 accepts.
        properties: Those that we use.
    """

    is_session_present: bool
    code: int
    properties: Mapping[ConnackProperty, int | str]


def read_connack(packet: Packet, version: MqttVersion) -> Connack:
    """Return the content of a CONNACK.

    Args:
        packet: The packet.
        version: The version of MQTT.

    Raises:
        MalformedPacketError: It is not a CONNACK, or violates the standard.
    """
    body = packet.body
    if len(body) < 2 or (version is MqttVersion.V311 and len(body) != 2):
        raise MalformedPacketError("a CONNACK has the wrong size")
    # A broker without MQTT 5 refuses without properties, and other brokers may leave them out too.
    found = read_properties(body, 2) if len(body) > 2 and not body[1] else {}
    properties = {name: _connack_value(name, found[name]) for name in ConnackProperty if name in found}
    return Connack(bool(body[0] & 1), body[1], properties)


@dataclass(frozen=True, slots=True)
class Remarks:
    """What a broker says about a reason code for a human reader: never more than shown.

    Args:
        reason: Its Reason String (MQTT 5, section 3.14.2.2.3); empty if there is none.
        server: Its Server Reference, another server to use (section 4.13); empty if there is none.
    """

    reason: str = ""
    server: str = ""

    def __str__(self) -> str:
        said = [f"it says {self.reason!a}"] if self.reason else []
        said += [f"it refers to the server {self.server!a}"] if self.server else []
        return f" ({', '.join(said)})" if said else ""


def read_remarks(body: bytes, position: int) -> Remarks:
    """Return the remarks in a CONNACK that refuses, or in a DISCONNECT; none if they cannot be read.

    Args:
        body: The packet's body.
        position: Where the length of its properties is, if it has any.
    """
    try:
        found = read_properties(body, position) if position < len(body) else {}
    except (MalformedPacketError, IndexError):
        # The reason code counts, whatever follows it.
        return Remarks()
    return Remarks(_shown(found.get(_REASON_STRING)), _shown(found.get(_SERVER_REFERENCE)))


def read_suback(packet: Packet, version: MqttVersion) -> tuple[int, ...]:
    """Return the reason codes of a SUBACK (MQTT 5, section 3.9), one for each topic that was asked for.

    Args:
        packet: The packet.
        version: The version of MQTT.

    Raises:
        MalformedPacketError: It has none.
    """
    codes = _reason_codes(packet, version)
    if not codes:
        raise MalformedPacketError("a SUBACK has no reason code")
    return codes


def read_unsuback(packet: Packet, version: MqttVersion) -> tuple[int, ...]:
    """Return the reason codes of an UNSUBACK (MQTT 5, section 3.11), one for each topic; MQTT 3.1.1 has none.

    Args:
        packet: The packet.
        version: The version of MQTT.

    Raises:
        MalformedPacketError: Its properties are longer than the packet.
    """
    return _reason_codes(packet, version)


def read_acknowledgement(packet: Packet) -> tuple[int, int]:
    """Return the packet identifier and the reason code of a PUBACK or PUBREL (MQTT 5, section 3.4).

    Args:
        packet: The packet.

    Raises:
        MalformedPacketError: It has no packet identifier.
    """
    if len(packet.body) < 2:
        raise MalformedPacketError("an acknowledgement has no packet identifier")
    return int.from_bytes(packet.body[:2]), packet.body[2] if len(packet.body) > 2 else 0


def read_properties(body: bytes, position: int) -> dict[int, int | bytes]:
    """Return the properties of a packet except user properties, in time linear in their size.

    Args:
        body: The packet's body.
        position: Where the length of the properties is.

    Raises:
        MalformedPacketError: They do not end where they should, are unknown, or occur twice.
    """
    end = _after_properties(body, position)
    _, position = _variable(body, position)
    found: dict[int, int | bytes] = {}
    while position < end:
        identifier, position = body[position], position + 1
        if identifier == _PAIR:
            position = _after_text(body, _after_text(body, position))
            continue
        begin = position
        value: int | bytes
        if identifier in _TEXTS:
            position = _after_text(body, position)
            value = body[begin + 2 : position]
        elif identifier in _VARIABLE:
            value, position = _variable(body, position)
        else:
            position += _width(identifier)
            value = int.from_bytes(body[begin:position])
        if identifier in found:
            raise MalformedPacketError(f"property {identifier} occurs twice")
        found[identifier] = value
    if position != end:
        raise MalformedPacketError("the properties do not end where they should")
    return found


def _check_first_byte(byte: int) -> None:
    """Check type and flags (MQTT 5, section 2.1.3), so that anything but MQTT is detected at its first byte."""
    if byte == _TLS_ALERT:
        raise MalformedPacketError("a TLS alert came instead of MQTT")
    kind, flags = byte & 0xF0, byte & 0x0F
    expected = flags if kind == PacketType.PUBLISH else 2 if kind == PacketType.PUBREL else 0
    if kind not in frozenset(PacketType) or flags != expected:
        raise MalformedPacketError(f"no packet of a broker begins with the byte {byte:#04x}")


def _connack_value(name: ConnackProperty, value: int | bytes) -> int | str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value == 0 and name in {ConnackProperty.RECEIVE_MAXIMUM, ConnackProperty.MAXIMUM_PACKET_SIZE}:
        raise MalformedPacketError(f"a CONNACK sets {name.name} to 0")
    return value


def _reason_codes(packet: Packet, version: MqttVersion) -> tuple[int, ...]:
    begin = _after_properties(packet.body, 2) if version is MqttVersion.V5 else 2
    return tuple(packet.body[begin:])


def _shown(remark: int | bytes | None) -> str:
    # Its bytes are cut first, so that the rest is not even decoded.
    text = remark[: 4 * _MAX_REMARK_CHARACTERS].decode(errors="replace") if isinstance(remark, bytes) else ""
    return text if len(text) <= _MAX_REMARK_CHARACTERS else f"{text[:_MAX_REMARK_CHARACTERS]}..."


def _width(identifier: int) -> int:
    if identifier in _BYTES:
        return 1
    if identifier in _TWO_BYTES:
        return 2
    if identifier in _FOUR_BYTES:
        return 4
    raise MalformedPacketError(f"property {identifier} is unknown")


def _after_properties(body: bytes, position: int) -> int:
    length, begin = _variable(body, position)
    if begin + length > len(body):
        raise MalformedPacketError("its properties are longer than its packet")
    return begin + length


def _after_text(body: bytes, position: int) -> int:
    end = position + 2 + int.from_bytes(body[position : position + 2])
    if end > len(body):
        raise MalformedPacketError("a property is longer than its packet")
    return end


def _variable(data: bytes | bytearray, position: int) -> tuple[int, int]:
    """Return a variable byte integer (MQTT 5, section 1.5.5), and where it ends."""
    value = 0
    for number, byte in enumerate(data[position : position + _MAX_VARIABLE_BYTES]):
        value |= (byte & 0x7F) << 7 * number
        if not byte & 0x80:
            return value, position + number + 1
    raise MalformedPacketError("a length is malformed")
