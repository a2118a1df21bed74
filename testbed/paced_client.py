"""A client that publishes many handwritten packets at a given rate, without waiting for each acknowledgement."""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from testbed.raw_mqtt import RawClient, publish_packet

_PUBACK: Final = 0x40
# MQTT 5, section 3.4.2.1.
_NO_SUBSCRIBER: Final = b"\x10"
_MAX_PACKET_ID: Final = 65535
_PATIENCE_SECONDS: Final = 20.0
_SLICE_SECONDS: Final = 0.02
_PORTION_PACKETS: Final = 64


@dataclass(frozen=True, slots=True)
class Publication:
    """A packet that a stranger publishes at QoS 1.

    Args:
        payload: Any bytes.
        properties: The properties of the packet, without their length.
        is_retained: Whether the broker keeps it for later subscribers.
    """

    payload: bytes
    properties: bytes = b""
    is_retained: bool = False


class PacedClient(RawClient):
    """A connection to a broker on loopback, whose acknowledgements are counted as they arrive.

    Args:
        port: The broker's.

    Raises:
        OSError: The broker cannot be reached, or ends the connection.
    """

    def __init__(self, port: int) -> None:
        try:
            super().__init__(port)
        except AssertionError as error:
            raise ConnectionError("the broker closed the connection") from error
        self._news = threading.Condition()
        self._unacknowledged = 0
        self._without_subscriber: list[int] = []
        self._reader = threading.Thread(target=self._count_acknowledgements, daemon=True)
        self._reader.start()

    def publish_all(
        self, topic: str, publications: Sequence[Publication], rate: float | None = None
    ) -> list[Publication]:
        """Publish, and return when the broker has acknowledged all of it: those that it had no subscriber for.

        Args:
            topic: The topic.
            publications: The packets, in order.
            rate: How many a second; None for as many as the broker accepts.

        Raises:
            OSError: The broker is gone.
        """
        begun_at, sent = time.monotonic(), 0
        of_packets: dict[int, Publication] = {}
        self._without_subscriber = []
        while sent < len(publications):
            due = len(publications) if rate is None else int((time.monotonic() - begun_at) * rate) + 1
            portion = publications[sent : min(due, sent + _PORTION_PACKETS)]
            if portion:
                packets = []
                for one in portion:
                    packets.append(self._packet(topic, one))
                    of_packets[self._packet_id] = one
                self.send(b"".join(packets))
                sent += len(portion)
            if rate is not None:
                time.sleep(_SLICE_SECONDS)
        self._wait_for_acknowledgements()
        return [of_packets[number] for number in self._without_subscriber]

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._file.close()
        self._socket.close()

    def _packet(self, topic: str, publication: Publication) -> bytes:
        self._packet_id = self._packet_id % _MAX_PACKET_ID + 1
        with self._news:
            self._unacknowledged += 1
        payload, properties = publication.payload, publication.properties
        return publish_packet(topic, payload, 1, self._packet_id, properties, retain=publication.is_retained)

    def _wait_for_acknowledgements(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with self._news:
            while self._unacknowledged > 0:
                if not self._reader.is_alive():
                    raise ConnectionError("the broker closed the connection")
                if not self._news.wait(0.5) and time.monotonic() > deadline:
                    raise TimeoutError("the broker did not acknowledge in time")

    def _count_acknowledgements(self) -> None:
        # Any end of the connection ends this thread; `publish_all` raises the error.
        with contextlib.suppress(OSError, AssertionError, IndexError):
            while True:
                header, body = self.read()
                if header == _PUBACK:
                    with self._news:
                        self._unacknowledged -= 1
                        if body[2:3] == _NO_SUBSCRIBER:
                            self._without_subscriber.append(int.from_bytes(body[:2]))
                        self._news.notify_all()
