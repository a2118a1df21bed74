"""A broker on loopback that sends on each connection exactly what a test's script sends."""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from idlib.settings import MqttVersion
from idlib.transport import Broker
from testbed.raw_mqtt import packet

LOOPBACK: Final = "127.0.0.1"
_PATIENCE: Final = 20.0
CONNACK: Final = packet(0x20, b"\0\0\0")
CONNACK_311: Final = packet(0x20, b"\0\0")


def connack(properties: bytes, *, code: int = 0) -> bytes:
    """Return a CONNACK of MQTT 5 with properties."""
    return packet(0x20, bytes([0, code, len(properties)]) + properties)


class Peer:
    """One connection, as a script uses it.

    Args:
        connection: Its socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, octets: bytes) -> None:
        """Send bytes as they are."""
        self._connection.sendall(octets)

    def read(self) -> tuple[int, bytes]:
        """Return the first byte and the body of the client's next packet; 0 at the end of the connection."""
        header = self._connection.recv(1)
        if not header:
            return 0, b""
        length = shift = 0
        while True:
            octet = self._read_exactly(1)[0]
            length |= (octet & 0x7F) << shift
            shift += 7
            if not octet & 0x80:
                return header[0], self._read_exactly(length)

    def is_silent(self, seconds: float) -> bool:
        """Return whether the client sends nothing for this many seconds."""
        return not select.select([self._connection], [], [], seconds)[0]

    def expect(self, kind: int) -> bytes:
        """Return the body of the client's next packet, which must be of a type."""
        header, body = self.read()
        if not header:
            raise ConnectionError("the client closed the connection")
        assert header & 0xF0 == kind, (header, body)
        return body

    def accept(self, answer: bytes = CONNACK) -> None:
        """Accept the connection."""
        self.expect(0x10)
        self.send(answer)

    def grant(self, suback: bytes = b"\0\1") -> None:
        """Confirm a subscription; the answer is what follows the packet identifier."""
        self.send(packet(0x90, self.expect(0x80)[:2] + suback))

    def unsubscribe(self, code: int = 0) -> list[str]:
        """Confirm the end of one or more subscriptions, and return their topic filters."""
        body = self.expect(0xA0)
        filters, rest = [], body[3:]
        while rest:
            end = 2 + int.from_bytes(rest[:2])
            filters.append(rest[2:end].decode())
            rest = rest[end:]
        self.send(packet(0xB0, body[:2] + bytes([0, *(code for _ in filters)])))
        return filters

    def wait_for_end(self) -> None:
        """Read until the client closes the connection."""
        while self.read()[0]:
            pass

    def reset(self) -> None:
        """Make the end of the script reset the connection."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read_exactly(self, number: int) -> bytes:
        octets = b""
        while len(octets) < number:
            portion = self._connection.recv(number - len(octets))
            if not portion:
                raise ConnectionError("the client closed the connection")
            octets += portion
        return octets


def no_session_311(peer: Peer) -> None:
    """Report with MQTT 3.1.1 that there is no session; a sender makes an extra connection to learn this."""
    assert not is_clean(peer.expect(0x10))
    peer.send(CONNACK_311)
    peer.wait_for_end()


def is_clean(connect: bytes) -> bool:
    """Return whether a CONNECT asks for a clean session, or for a clean start with MQTT 5."""
    return bool(connect[7] & 0x02)


class ScriptedBroker:
    """Runs one script for each connection in turn, and the last one for all further connections.

    Args:
        scripts: Each handles a connection, which is closed when the script returns.
        version: The version of MQTT.
    """

    def __init__(self, *scripts: Callable[[Peer], None], version: MqttVersion = MqttVersion.V5) -> None:
        self._scripts = scripts
        self._server = socket.create_server((LOOPBACK, 0))
        self.address = Broker(LOOPBACK, self._server.getsockname()[1], version)
        self.connections: list[float] = []
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        if error is None:
            assert not self.errors, self.errors

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                connection.settimeout(_PATIENCE)
                script = self._scripts[min(len(self.connections), len(self._scripts) - 1)]
                self.connections.append(time.monotonic())
                threading.Thread(target=self._run, args=(script, Peer(connection)), daemon=True).start()

    def _run(self, script: Callable[[Peer], None], peer: Peer) -> None:
        try:
            script(peer)
        except OSError:
            pass
        except AssertionError as error:
            self.errors.append(error)
        finally:
            peer.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
