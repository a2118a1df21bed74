"""A WebSocket as the MQTT library uses a socket (RFC 6455; MQTT 5, section 6).

The library's own WebSocket keeps a whole frame in memory, whatever its length, and reads a server's answer to the
handshake without a limit. Here at most one portion of what the server sends is in memory.
"""

import contextlib
import socket
import ssl
import time
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from idlib.errors import quoted
from idlib.settings import MqttUrl
from idlib.transport.dialing import DialError

SUBPROTOCOL: Final = "mqtt"
_PORTION_BYTES: Final = 65536
# The MQTT library copies what is left of a packet for each frame, so that small frames of a large packet would be slow.
_FRAME_BYTES: Final = 1024 * 1024
# A server could send pings and never read the answers.
_MAX_UNSENT_BYTES: Final = 2 * _FRAME_BYTES
_MAX_SHOWN: Final = 200
_REDIRECTIONS: Final = frozenset({301, 302, 303, 307, 308})
_LOGIN_STATUS: Final = frozenset({401, 403, 407})
_NOT_FOUND: Final = frozenset({404, 405, 410})
_CHECK_WEBSOCKETS: Final = "check that host, port and path of MQTT_URL are those of the broker's WebSockets"


# RFC 6455, section 7.4.1, and the registry that it creates; the library uses some of them for what a server does wrong.
_MEANINGS: Final = {
    1000: "the server has nothing more to send",
    1001: "the server goes away",
    1002: "a violation of the WebSocket protocol",
    1003: "a type of data that is not accepted",
    1007: "a text that is not UTF-8",
    1008: "a violation of the server's rules",
    1009: "a message that is too big",
    1011: "an error in the server",
    1012: "the server restarts",
    1013: "the server is overloaded",
}


def open_websocket(connection: socket.socket, url: MqttUrl, timeout: float) -> "WebSocket":
    """Return a WebSocket over a connection.

    Args:
        connection: To the server; with TLS if the URL says so.
        url: The broker's URL.
        timeout: Seconds that the server may take to accept.

    Raises:
        DialError: The server refuses, or is not a server of MQTT in WebSockets.
        OSError: The connection ends.
    """
    protocol = WSConnection(ConnectionType.CLIENT)
    place = f"[{url.host}]" if ":" in url.host else url.host
    host = place if url.port == url.scheme.default_port else f"{place}:{url.port}"
    connection.settimeout(timeout)
    connection.sendall(protocol.send(Request(host=host, target=url.path, subprotocols=[SUBPROTOCOL])))
    deadline = time.monotonic() + timeout
    event = None
    while event is None:
        event = _answer(connection, protocol, deadline, timeout)
    if isinstance(event, RejectConnection):
        raise _refusal(event)
    if not isinstance(event, AcceptConnection) or event.subprotocol != SUBPROTOCOL:
        raise DialError("the server accepts WebSockets, but not for MQTT", _CHECK_WEBSOCKETS)
    return WebSocket(connection, protocol)


def _answer(connection: socket.socket, protocol: WSConnection, deadline: float, timeout: float) -> Event | None:
    """Return the server's answer to the handshake; None if it is not complete."""
    remaining = deadline - time.monotonic()
    try:
        connection.settimeout(max(remaining, 0.001))
        data = connection.recv(_PORTION_BYTES)
    except TimeoutError as error:
        raise DialError(
            f"the server does not answer as WebSockets do within {timeout:g} s", _CHECK_WEBSOCKETS
        ) from error
    except ConnectionError:
        data = b""
    if not data:
        raise DialError("the server closed the connection instead of accepting a WebSocket", _CHECK_WEBSOCKETS)
    try:
        protocol.receive_data(data)
    except (RemoteProtocolError, LocalProtocolError, ValueError) as error:
        raise DialError("the server does not answer as WebSockets do", _CHECK_WEBSOCKETS) from error
    return next(protocol.events(), None)


def _refusal(event: RejectConnection) -> DialError:
    status = event.status_code
    fact = f"the server answers with HTTP status {status} instead of accepting a WebSocket"
    if status in _REDIRECTIONS:
        location = next((value for name, value in event.headers if name.lower() == b"location"), b"")
        shown = quoted(location[:_MAX_SHOWN].decode("ascii", "replace"))
        return DialError(f"{fact}, and names {shown}", "set MQTT_URL to the address of the broker's WebSockets")
    if status in _LOGIN_STATUS:
        return DialError(fact, "the server wants a login before MQTT, or a proxy is in the way: ask its operator")
    if status in _NOT_FOUND:
        return DialError(fact, "check the path of MQTT_URL; brokers use /mqtt, /ws or /")
    return DialError(fact, _CHECK_WEBSOCKETS)


class WebSocket:
    """A connection whose bytes are the contents of binary WebSocket frames.

    Args:
        connection: The connection below it, which `close` closes.
        protocol: Its state after the handshake.
    """

    def __init__(self, connection: socket.socket, protocol: WSConnection) -> None:
        self.connection = connection
        self._protocol = protocol
        self._received = bytearray()
        self._end: str | None = None
        # What is still to be sent, and how many of the caller's bytes the last frame in it has.
        self._unsent = bytearray()
        self._number_in_frame = 0
        self._take_events()

    def fileno(self) -> int:
        """Return the file descriptor, to wait for it."""
        return self.connection.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  # as a socket has it
        """Let `recv` and `send` wait, or not.

        Args:
            flag: Whether they wait.
        """
        self.connection.setblocking(flag)

    def pending(self) -> int:
        """Return how many bytes can be received although waiting for the file descriptor may not end."""
        below = self.connection.pending() if isinstance(self.connection, ssl.SSLSocket) else 0
        return len(self._received) + below

    def recv(self, size: int) -> bytes:
        """Return the next bytes.

        Args:
            size: How many at most.

        Raises:
            BlockingIOError: There are none yet.
            OSError: The connection, or the WebSocket, has ended.
        """
        if not self._received:
            self._check_open()
            data = self.connection.recv(_PORTION_BYTES)
            if not data:
                return b""
            self._take(data)
        if not self._received:
            self._check_open()
            raise BlockingIOError
        part = bytes(self._received[:size])
        del self._received[:size]
        return part

    def send(self, data: bytes | bytearray) -> int:
        """Send the next bytes, and return how many.

        Args:
            data: The bytes; after a BlockingIOError the same again.

        Raises:
            BlockingIOError: They are not sent yet.
            OSError: The connection, or the WebSocket, has ended.
        """
        self._check_open()
        if not self._number_in_frame:
            portion = bytes(data[:_FRAME_BYTES])
            self._unsent += self._protocol.send(BytesMessage(data=portion))
            self._number_in_frame = len(portion)
        self._flush()
        if self._unsent:
            raise BlockingIOError
        number, self._number_in_frame = self._number_in_frame, 0
        return number

    def close(self) -> None:
        """Close the connection; the server is told if that is possible at once."""
        with contextlib.suppress(OSError, LocalProtocolError):
            if not self._unsent and self._end is None:
                self.connection.settimeout(0.0)
                self.connection.send(self._protocol.send(CloseConnection(code=1000)))
        self.connection.close()

    def _take(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
            self._take_events()
        except (RemoteProtocolError, LocalProtocolError, ValueError) as error:
            raise ConnectionAbortedError("the server violates the WebSocket protocol") from error
        if len(self._unsent) > _MAX_UNSENT_BYTES:
            raise ConnectionAbortedError("the server sends WebSocket pings, and does not read the answers")
        if self._unsent:
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._flush()

    def _take_events(self) -> None:
        for event in self._protocol.events():
            match event:
                case BytesMessage():
                    self._received += event.data
                case Ping():
                    self._unsent += self._protocol.send(event.response())
                case CloseConnection():
                    self._end = f"the WebSocket ended with code {event.code}: {_meaning_of(event.code)}"
                    with contextlib.suppress(LocalProtocolError):
                        self._unsent += self._protocol.send(event.response())
                case TextMessage():
                    self._end = "the server sent a text in the WebSocket, and MQTT is binary"

    def _check_open(self) -> None:
        if self._end is not None:
            raise ConnectionAbortedError(self._end)

    def _flush(self) -> None:
        while self._unsent:
            try:
                number = self.connection.send(self._unsent)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                raise BlockingIOError from error
            del self._unsent[:number]


def _meaning_of(code: int) -> str:
    return _MEANINGS.get(code, "a reason that the standard does not define")
