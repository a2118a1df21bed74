"""The server of the metrics, and clients that try to make it wait, grow or end."""

import http.client
import logging
import resource
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from idlib.metrics import server as module
from idlib.metrics.requests import MAX_REQUEST_BYTES
from idlib.metrics.server import MAX_CONNECTIONS, MetricsServer
from idlib.settings import ServerAddress

# Larger than the buffers of a connection, so that the server has to wait for a client that does not read.
LARGE = b"# " + b"x" * 8_000_000 + b"\n"


class Page:
    """A page that counts how often it is made."""

    def __init__(self) -> None:
        self.body = b"a 1\n"
        self.made = 0
        self.error: Exception | None = None

    def make(self) -> bytes:
        self.made += 1
        if self.error is not None:
            raise self.error
        return self.body


@pytest.fixture
def page() -> Page:
    return Page()


@pytest.fixture
def server(page: Page) -> Iterator[MetricsServer]:
    opened = MetricsServer(ServerAddress("127.0.0.1", 0), page.make)
    yield opened
    opened.close()


def get(server: MetricsServer, path: str = "/metrics", method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def is_closed(client: socket.socket) -> bool:
    """Wait until the server has closed a connection without an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_client_of_the_standard_library_reads_the_page(server: MetricsServer) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.read() == b"a 1\n"
    assert get(server, "/") == (404, b"There is only /metrics.\n")
    assert get(server, "/metrics", "POST")[0] == 405


def test_a_page_is_made_at_most_once_a_second(
    server: MetricsServer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_SECONDS", 1000.0)
    # The page that was never made counts as made a second before the system started.
    server._made_at = -2000.0
    for _ in range(5):
        assert get(server) == (200, b"a 1\n")
    assert page.made == 1
    monkeypatch.setattr(module, "PAGE_SECONDS", 0.0)
    page.body = b"a 2\n"
    assert get(server) == (200, b"a 2\n")


def test_an_internal_error_is_logged_once_and_ends_nothing(
    server: MetricsServer, page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAGE_SECONDS", 0.0)
    page.error = ZeroDivisionError("secret")
    for _ in range(3):
        status, body = get(server)
        assert status == 500
        assert b"secret" not in body
    assert [record.getMessage() for record in caplog.records] == ["Internal error while collecting metrics"]
    page.error = None
    assert get(server) == (200, b"a 1\n")


def test_a_request_in_single_bytes_is_answered(server: MetricsServer) -> None:
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /metrics HTTP/1.1\r\n\r\n":
            client.sendall(bytes([byte]))
        assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b"a 1\n")


def test_a_client_that_sends_nothing_is_disconnected(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 0.1)
    with connect(server) as client:
        assert is_closed(client)
    assert get(server)[0] == 200


def test_a_client_that_does_not_read_is_disconnected(
    server: MetricsServer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.body = LARGE
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 0.3)
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + 10
        while server._connections or not page.made:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        # It reads now, and gets only what the buffers had.
        received = 0
        try:
            while part := client.recv(1_000_000):
                received += len(part)
        except ConnectionResetError:
            pass
        assert received < len(LARGE)
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 10.0)
    assert get(server) == (200, LARGE)


def test_clients_that_hold_connections_do_not_keep_others_out(server: MetricsServer) -> None:
    held = [connect(server) for _ in range(3 * MAX_CONNECTIONS)]
    for client in held:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
    for _ in range(5):
        assert get(server) == (200, b"a 1\n")
    assert is_closed(held[0])
    assert len(server._connections) <= MAX_CONNECTIONS
    for client in held:
        client.close()


def test_a_request_without_an_end_takes_no_memory_and_is_told_so(server: MetricsServer) -> None:
    with connect(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n" + b"a" * (2 * MAX_REQUEST_BYTES))
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")
    assert get(server)[0] == 200


def test_many_clients_at_a_time_are_answered(server: MetricsServer) -> None:
    answers: list[tuple[int, bytes]] = []
    # As many as may be connected at a time.
    threads = [threading.Thread(target=lambda: answers.append(get(server))) for _ in range(MAX_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [(200, b"a 1\n")] * MAX_CONNECTIONS


def test_clients_that_reset_their_connections_do_no_harm(server: MetricsServer) -> None:
    for request in (b"", b"GET /metrics HTTP/1.1\r\n\r\n", b"x"):
        client = connect(server)
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert get(server)[0] == 200


def test_without_a_free_descriptor_it_tries_again(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.05)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connect(server) as first:
        first.sendall(b"GET")
        client = socket.socket()
        client.settimeout(10)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno(), before[1]))
        try:
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            deadline = time.monotonic() + 10
            while not caplog.records:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        client.close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "Requests for metrics cannot be accepted: Too many open files"


def test_a_port_in_use_is_an_error_and_leaves_nothing_open(server: MetricsServer, page: Page) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        MetricsServer(ServerAddress("127.0.0.1", server.port), page.make)
    with pytest.raises(OSError, match="Cannot assign requested address"):
        MetricsServer(ServerAddress("192.0.2.1", 9400), page.make)


def test_it_listens_on_ipv6(page: Page) -> None:
    opened = MetricsServer(ServerAddress("::1", 0), page.make)
    with urllib.request.urlopen(f"http://[::1]:{opened.port}/metrics", timeout=10) as response:
        assert response.status == 200
    opened.close()


def test_closing_ends_the_thread_and_all_connections(page: Page) -> None:
    opened = MetricsServer(ServerAddress("127.0.0.1", 0), page.make)
    client = connect(opened)
    client.sendall(b"GET")
    opened.close()
    assert is_closed(client)
    client.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "Metrics"]
