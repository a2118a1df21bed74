"""A WebSocket to a server at the other end of a socket pair, in the roles of honest and hostile servers."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request

from idlib.settings import read_mqtt_url
from idlib.transport.dialing import DialError
from idlib.transport.websocket import WebSocket, open_websocket
from testbed.network.canned import UPGRADE_WITHOUT_KEY

URL = read_mqtt_url("ws://broker.example:8080/mqtt")
BINARY, TEXT, PING, CLOSE = 0x82, 0x81, 0x89, 0x88
TIMEOUT = 5.0


class Server:
    """The server's end: a protocol of the library's own for honest answers, and the socket for others."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.request: Request | None = None

    def accept(self, subprotocol: str | None = "mqtt") -> None:
        self.protocol.receive_data(self.connection.recv(65536))
        (event,) = self.protocol.events()
        assert isinstance(event, Request)
        self.request = event
        self.connection.sendall(self.protocol.send(AcceptConnection(subprotocol=subprotocol)))

    def answer(self, octets: bytes) -> None:
        self.connection.recv(65536)
        self.connection.sendall(octets)

    def received(self, size: int) -> bytes:
        """Return what the client has sent in frames."""
        content = b""
        while len(content) < size:
            self.protocol.receive_data(self.connection.recv(65536))
            for event in self.protocol.events():
                assert isinstance(event, BytesMessage)
                content += event.data
        return content


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Server]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(TIMEOUT)
    with ours, theirs:
        yield ours, Server(theirs)


def opened(ends: tuple[socket.socket, Server], behave: Callable[[Server], None], timeout: float = TIMEOUT) -> WebSocket:
    """Return our end after a handshake in which the server behaves in some way."""
    thread = threading.Thread(target=lambda: behave(ends[1]))
    thread.start()
    try:
        return open_websocket(ends[0], URL, timeout)
    finally:
        thread.join()


@pytest.fixture
def websocket(ends: tuple[socket.socket, Server]) -> WebSocket:
    return opened(ends, Server.accept)


def frame(first: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 126 else b"\x7e" + struct.pack("!H", length)
    return bytes([first]) + (size if length < 65536 else b"\x7f" + struct.pack("!Q", length)) + content


def received(websocket: WebSocket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        with suppress(BlockingIOError):
            content += websocket.recv(65536)
    return content


def test_the_request_names_the_host_the_path_and_the_subprotocol(ends: tuple[socket.socket, Server]) -> None:
    opened(ends, Server.accept)
    request = ends[1].request
    assert request is not None
    assert (request.host, request.target, request.subprotocols) == ("broker.example:8080", "/mqtt", ["mqtt"])


def test_bytes_pass_in_both_directions(ends: tuple[socket.socket, Server], websocket: WebSocket) -> None:
    assert websocket.send(b"to the server") == 13
    assert ends[1].received(13) == b"to the server"
    ends[1].connection.sendall(ends[1].protocol.send(BytesMessage(data=b"to the client")))
    assert received(websocket, 13) == b"to the client"


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(1, 100), max_size=20))
def test_frames_are_read_however_they_are_split(contents: list[bytes], cuts: list[int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        websocket = opened((ours, Server(theirs)), Server.accept)
        websocket.setblocking(flag=False)
        whole = b"".join(frame(BINARY, content) for content in contents)
        read = b""
        for cut in [*cuts, len(whole)]:
            theirs.sendall(whole[:cut])
            whole = whole[cut:]
            with suppress(BlockingIOError):
                while True:
                    read += websocket.recv(7)
        assert read == b"".join(contents)


def test_a_message_in_fragments_with_a_ping_in_between_is_read(
    ends: tuple[socket.socket, Server], websocket: WebSocket
) -> None:
    ends[1].connection.sendall(frame(0x02, b"first ") + frame(PING, b"?") + frame(0x80, b"second"))
    assert received(websocket, 12) == b"first second"
    answer = ends[1].connection.recv(100)
    assert answer[0] == 0x8A


def test_a_frame_of_any_announced_length_takes_no_memory(
    ends: tuple[socket.socket, Server], websocket: WebSocket
) -> None:
    """A server may announce 2^62 bytes; what has arrived is passed on, and nothing else is kept."""
    ends[1].connection.sendall(b"\x82\x7f" + struct.pack("!Q", 2**62) + b"begin")
    assert received(websocket, 5) == b"begin"
    for _ in range(20):
        ends[1].connection.sendall(bytes(50_000))
        assert len(received(websocket, 50_000)) == 50_000
        assert websocket.pending() == 0


def test_nothing_is_lost_if_the_server_reads_slowly(ends: tuple[socket.socket, Server], websocket: WebSocket) -> None:
    content = bytes(range(256)) * 8000
    websocket.setblocking(flag=False)
    reader: list[bytes] = []
    ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = refusals = 0
    thread = threading.Thread(target=lambda: reader.append(ends[1].received(len(content))))
    while sent < len(content):
        try:
            sent += websocket.send(content[sent:])
        except BlockingIOError:
            refusals += 1
            if refusals == 1:
                thread.start()
    thread.join()
    assert refusals
    assert reader == [content]


@pytest.mark.parametrize(
    ("octets", "fact", "hint"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404", "check the path of MQTT_URL"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "HTTP status 401", "wants a login"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP status 200", "host, port and path"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: https://portal.example/\x1b[2J\r\n\r\n",
            "",
            "",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: https://portal.example/login\r\n\r\n",
            "and names 'https://portal.example/login'",
            "set MQTT_URL",
        ),
        (b"\x20\x02\x00\x00", "does not answer as WebSockets do", "host, port and path"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer as WebSockets do", "host, port and path"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "does not answer as WebSockets do", "host, port and path"),
        (UPGRADE_WITHOUT_KEY, "does not answer as WebSockets do", "host, port and path"),
    ],
    ids=["not-found", "login", "page", "control-characters", "redirect", "mqtt", "ssh", "endless-headers", "false-key"],
)
def test_another_answer_is_explained(ends: tuple[socket.socket, Server], octets: bytes, fact: str, hint: str) -> None:
    def behave(server: Server) -> None:
        # We may have closed the connection before we have read everything.
        with suppress(OSError):
            server.answer(octets)

    with pytest.raises(DialError) as caught:
        opened(ends, behave)
    assert fact in str(caught.value)
    assert hint in caught.value.hint
    assert str(caught.value).isprintable()


def test_a_server_for_another_subprotocol_is_refused(ends: tuple[socket.socket, Server]) -> None:
    with pytest.raises(DialError, match="accepts WebSockets, but not for MQTT"):
        opened(ends, lambda server: server.accept(None))


def test_a_server_that_closes_the_connection_is_reported(ends: tuple[socket.socket, Server]) -> None:
    def behave(server: Server) -> None:
        server.answer(b"")
        server.connection.close()

    with pytest.raises(DialError, match="closed the connection instead of accepting"):
        opened(ends, behave)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_in_time(ends: tuple[socket.socket, Server]) -> None:
    ended = threading.Event()

    def drip(server: Server) -> None:
        with suppress(OSError):
            while not ended.wait(0.05):
                server.connection.sendall(b"H")

    thread = threading.Thread(target=lambda: drip(ends[1]))
    thread.start()
    try:
        with pytest.raises(DialError, match=r"does not answer as WebSockets do"):
            open_websocket(ends[0], URL, 0.5)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("octets", "fact"),
    [
        (frame(TEXT, b"hello"), "a text in the WebSocket"),
        (frame(CLOSE, struct.pack("!H", 1008) + b"\x1b[2J"), "ended with code 1008"),
        (b"\x83\x00", "ended with code 1002: a violation of the WebSocket protocol"),
        (b"\x82\x85\x00\x00\x00\x00hello", "ended with code 1002: a violation of the WebSocket protocol"),
        (b"\xf2\x00", "ended with code 1002: a violation of the WebSocket protocol"),
        (frame(PING, b"x" * 126), "ended with code 1002: a violation of the WebSocket protocol"),
        (frame(TEXT, b"\xff"), "ended with code 1007"),
    ],
    ids=["text", "close", "opcode", "masked", "reserved-bits", "long-ping", "not-utf-8"],
)
def test_a_violation_ends_the_connection(
    ends: tuple[socket.socket, Server], websocket: WebSocket, octets: bytes, fact: str
) -> None:
    ends[1].connection.sendall(octets)
    with pytest.raises(ConnectionAbortedError, match=fact):
        websocket.recv(100)


def test_what_came_before_the_end_is_still_read(ends: tuple[socket.socket, Server], websocket: WebSocket) -> None:
    ends[1].connection.sendall(frame(BINARY, b"last words") + frame(CLOSE, struct.pack("!H", 1001)))
    assert received(websocket, 10) == b"last words"
    with pytest.raises(ConnectionAbortedError, match="ended with code 1001"):
        websocket.recv(100)


def test_nothing_is_sent_after_the_end(ends: tuple[socket.socket, Server], websocket: WebSocket) -> None:
    ends[1].connection.sendall(frame(BINARY, b"the last") + frame(CLOSE, struct.pack("!H", 1001)))
    # The end has come with these bytes.
    assert received(websocket, 8) == b"the last"
    with pytest.raises(ConnectionAbortedError, match="ended with code 1001"):
        websocket.send(b"to the server")


def test_pings_whose_answers_are_not_read_end_the_connection(
    ends: tuple[socket.socket, Server], websocket: WebSocket
) -> None:
    websocket.setblocking(flag=False)
    ends[1].connection.settimeout(0.0)
    pings = frame(PING, b"x" * 125) * 500
    with pytest.raises(ConnectionAbortedError, match="does not read the answers"):  # noqa: PT012  # it ends at some time
        for _ in range(1000):
            with suppress(BlockingIOError):
                ends[1].connection.send(pings)
            with suppress(BlockingIOError):
                websocket.recv(100)


def test_the_server_is_told_that_we_leave(ends: tuple[socket.socket, Server], websocket: WebSocket) -> None:
    websocket.close()
    ends[1].protocol.receive_data(ends[1].connection.recv(100))
    (event,) = ends[1].protocol.events()
    assert isinstance(event, CloseConnection)
    assert event.code == 1000


def test_a_ping_is_answered_before_the_next_bytes(ends: tuple[socket.socket, Server], websocket: WebSocket) -> None:
    ends[1].connection.sendall(ends[1].protocol.send(Ping(payload=b"?")))
    with pytest.raises(BlockingIOError):
        websocket.recv(100)
    assert websocket.send(b"data") == 4
    ends[1].protocol.receive_data(ends[1].connection.recv(1000))
    assert next(type(event).__name__ for event in ends[1].protocol.events()) == "Pong"
