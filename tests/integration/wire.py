"""PUBLISH packets of MQTT 5 built byte by byte, and a client that sends whatever it is given."""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Final, Self

_LOOPBACK: Final = "127.0.0.1"
_CONNECT: Final = 0x10
_PUBLISH: Final = 0x30
_PUBACK: Final = 0x40
_QOS_1: Final = 0x02
_RETAIN: Final = 0x01
_MAX_PACKET_ID: Final = 65535
_PATIENCE_SECONDS: Final = 20.0
_SLICE_SECONDS: Final = 0.02
_PORTION_PACKETS: Final = 64
_DIGIT_BITS: Final = 7
_USER_PROPERTY: Final = b"\x26"


@dataclass(frozen=True, slots=True)
class Publication:
    """What a stranger publishes.

    Args:
        payload: Any bytes.
        properties: The properties of the packet, as they stand behind their length.
        is_retained: Whether the broker keeps it for whoever subscribes later.
        qos: 0 or 1.
    """

    payload: bytes
    properties: bytes = b""
    is_retained: bool = False
    qos: int = 1


def variable_integer(number: int) -> bytes:
    """Return a number as MQTT writes lengths (MQTT 5, section 1.5.5).

    Args:
        number: 0 to 268435455.
    """
    encoded = bytearray()
    while True:
        number, digit = number >> _DIGIT_BITS, number & 0x7F
        encoded.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def user_property(name: bytes, value: bytes) -> bytes:
    """Return a user property (MQTT 5, section 3.3.2.3.7) of any bytes.

    Args:
        name: At most 65535 bytes.
        value: At most 65535 bytes.
    """
    return _USER_PROPERTY + _string(name) + _string(value)


def publish_packet(topic: str, publication: Publication, packet_id: int) -> bytes:
    """Return a PUBLISH packet.

    Args:
        topic: Where it is published.
        publication: What.
        packet_id: 1 to 65535; left out at QoS 0.
    """
    flags = (_QOS_1 if publication.qos else 0) | (_RETAIN if publication.is_retained else 0)
    properties = variable_integer(len(publication.properties)) + publication.properties
    identifier = packet_id.to_bytes(2) if publication.qos else b""
    rest = _string(topic.encode()) + identifier + properties + publication.payload
    return bytes([_PUBLISH | flags]) + variable_integer(len(rest)) + rest


class WireClient:
    """A connection to a broker on loopback, for the length of a `with` statement.

    Args:
        port: Where the broker listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: socket.socket | None = None
        self._reader: threading.Thread | None = None
        self._news = threading.Condition()
        self._unacknowledged = 0
        self._last_id = 0

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            OSError: The broker cannot be reached, or does not answer.
        """
        self._connection = socket.create_connection((_LOOPBACK, self._port), _PATIENCE_SECONDS)
        rest = _string(b"MQTT") + b"\x05\x02\x00\x00\x00" + _string(secrets.token_hex(8).encode())
        self._connection.sendall(bytes([_CONNECT]) + variable_integer(len(rest)) + rest)
        stream = self._connection.makefile("rb")
        _read_packet(stream)
        self._connection.settimeout(None)
        self._reader = threading.Thread(target=self._count_acknowledgements, args=(stream,), daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        assert self._reader is not None
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()

    def publish(self, topic: str, publications: Sequence[Publication], rate: float | None = None) -> None:
        """Publish and wait until the broker has acknowledged all of it.

        Args:
            topic: Where.
            publications: What, in order.
            rate: How many a second; None for as many as the broker takes.

        Raises:
            OSError: The broker is gone.
        """
        connection = self._connection
        assert connection is not None
        begun_at, sent = time.monotonic(), 0
        while sent < len(publications):
            due = len(publications) if rate is None else int((time.monotonic() - begun_at) * rate) + 1
            portion = publications[sent : min(due, sent + _PORTION_PACKETS)]
            if portion:
                connection.sendall(b"".join(self._packet(topic, one) for one in portion))
                sent += len(portion)
            if rate is not None:
                time.sleep(_SLICE_SECONDS)
        self._wait_for_acknowledgements()

    def _packet(self, topic: str, publication: Publication) -> bytes:
        if publication.qos:
            self._last_id = self._last_id % _MAX_PACKET_ID + 1
            with self._news:
                self._unacknowledged += 1
        return publish_packet(topic, publication, self._last_id)

    def _wait_for_acknowledgements(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self._news:
            while self._unacknowledged > 0:
                if self._reader is None or not self._reader.is_alive():
                    raise ConnectionError("the broker has closed the connection")
                if not self._news.wait(0.5) and time.monotonic() > deadline:
                    raise TimeoutError("the broker does not acknowledge")

    def _count_acknowledgements(self, stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(OSError):
            while True:
                if _read_packet(stream)[0] & 0xF0 == _PUBACK:
                    with self._news:
                        self._unacknowledged -= 1
                        self._news.notify_all()
        with self._news:
            self._news.notify_all()


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


def _read_packet(stream: IO[bytes]) -> bytes:
    """Return the first byte and the body of the next packet."""
    first = _read(stream, 1)
    length = shift = 0
    while True:
        digit = _read(stream, 1)[0]
        length |= (digit & 0x7F) << shift
        shift += _DIGIT_BITS
        if not digit & 0x80:
            return first + _read(stream, length)


def _read(stream: IO[bytes], number: int) -> bytes:
    read = stream.read(number)
    if len(read) < number:
        raise ConnectionError("the broker has closed the connection")
    return read
