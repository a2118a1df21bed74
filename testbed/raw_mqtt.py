"""MQTT packets that no library would write, and a client that publishes them."""

import contextlib
import socket
from types import TracebackType
from typing import Final, Self

_PATIENCE: Final = 60.0
CLEAN_START: Final = 0x02
_CONNECT: Final = 0x10
_PUBLISH: Final = 0x30
_CONNACK: Final = 0x20
_PUBACK: Final = 0x40
_PUBREC: Final = 0x50
_PUBREL: Final = 0x62
_PUBCOMP: Final = 0x70
_DISCONNECT: Final = b"\xe0\x00"


def variable(value: int) -> bytes:
    """Return a variable byte integer (MQTT 5, section 1.5.5)."""
    octets = bytearray()
    while True:
        value, low = divmod(value, 128)
        octets.append(low | (0x80 if value else 0))
        if not value:
            return bytes(octets)


def text(octets: bytes) -> bytes:
    """Return a string or binary data with its length in front (sections 1.5.4 and 1.5.6)."""
    return len(octets).to_bytes(2) + octets


def user_property(name: bytes, value: bytes) -> bytes:
    """Return a user property."""
    return b"\x26" + text(name) + text(value)


def packet(header: int, body: bytes) -> bytes:
    """Return a packet of any type."""
    return bytes([header]) + variable(len(body)) + body


def connect_packet(
    client_id: str = "", *, version: str = "5", properties: bytes = b"", keep_alive: int = 60, flags: int = CLEAN_START
) -> bytes:
    """Return a CONNECT.

    Args:
        client_id: The session's name; the broker's choice without one.
        version: 5 or 3.1.1.
        properties: As they are in the packet, without their length; none in MQTT 3.1.1.
        keep_alive: In seconds.
        flags: `CLEAN_START` for a new session, 0 to continue the one of that name.
    """
    is_version_5 = version == "5"
    body = text(b"MQTT") + bytes([5 if is_version_5 else 4, flags]) + keep_alive.to_bytes(2)
    if is_version_5:
        body += variable(len(properties)) + properties
    return packet(_CONNECT, body + text(client_id.encode()))


def publish_packet(
    topic: str,
    payload: bytes,
    qos: int = 1,
    packet_id: int = 1,
    properties: bytes | None = b"",
    *,
    retain: bool = False,
) -> bytes:
    """Return a PUBLISH.

    Args:
        topic: The topic.
        payload: What is published.
        qos: 0 to 3.
        packet_id: Its number, if QoS is above 0.
        properties: As they are in the packet, without their length; None in MQTT 3.1.1.
        retain: Whether the broker keeps it for later subscribers.
    """
    body = text(topic.encode()) + (packet_id.to_bytes(2) if qos else b"")
    if properties is not None:
        body += variable(len(properties)) + properties
    return packet(_PUBLISH | qos << 1 | retain, body + payload)


class RawClient:
    """A client that publishes any packet and waits for the broker's acknowledgement.

    Args:
        port: The broker's, on loopback.
        version: 5 or 3.1.1.
        connect: The CONNECT, of that version; None for one of a new session.
    """

    def __init__(self, port: int, version: str = "5", connect: bytes | None = None) -> None:
        self._version = version
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._file = self._socket.makefile("rb")
        self._packet_id = 0
        self.send(connect or connect_packet(version=version))
        header, body = self.read()
        assert header == _CONNACK, header
        assert body[1] == 0, body
        self.has_earlier_session = bool(body[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def publish(
        self, topic: str, payload: bytes, qos: int = 1, properties: bytes = b"", *, retain: bool = False
    ) -> None:
        """Publish, and return when the broker has acknowledged it.

        Args:
            topic: The topic.
            payload: What to publish.
            qos: 0 to 2.
            properties: As they are in the packet, without their length; left out in MQTT 3.1.1.
            retain: Whether the broker keeps it for later subscribers.
        """
        self._packet_id = self._packet_id % 65535 + 1
        written = properties if self._version == "5" else None
        self.send(publish_packet(topic, payload, qos, self._packet_id, written, retain=retain))
        if qos == 1:
            self._expect(_PUBACK)
        elif qos == 2:  # as in the standard
            self._expect(_PUBREC)
            self.send(packet(_PUBREL, self._packet_id.to_bytes(2)))
            self._expect(_PUBCOMP)

    def send(self, octets: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(octets)

    def read(self) -> tuple[int, bytes]:
        """Return the first byte and the body of the broker's next packet."""
        header = self._file.read(1)
        assert header, "the broker closed the connection"
        length = shift = 0
        while True:
            octet = self._file.read(1)[0]
            length |= (octet & 0x7F) << shift
            shift += 7
            if not octet & 0x80:
                return header[0], self._file.read(length)

    def read_until_quiet(self, seconds: float) -> list[tuple[int, bytes]]:
        """Return packets as `read` does, until none comes for so many seconds."""
        packets = []
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while True:
                packets.append(self.read())
        return packets

    def close(self) -> None:
        """Disconnect."""
        with self._socket, self._file:
            self._socket.sendall(_DISCONNECT)

    def _expect(self, header: int) -> None:
        found, body = self.read()
        assert found == header, (found, body)
        assert int.from_bytes(body[:2]) == self._packet_id, body
        assert len(body) < 3 or body[2] < 0x80, f"refused with {body[2]:#x}"  # MQTT 5, section 2.4
