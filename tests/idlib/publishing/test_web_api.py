import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from idlib.errors import PublishingError
from idlib.publishing import web_api
from idlib.publishing.web_api import WebApi
from testbed.desec.server import DesecServer

LOOPBACK = "127.0.0.1"
HEADER = "Token secretsecret"


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Return a function that starts a server on loopback, and returns its address."""
    with contextlib.ExitStack() as stack:

        def start(converse: Callable[[socket.socket], None]) -> str:
            listener = stack.enter_context(socket.create_server((LOOPBACK, 0)))

            def run() -> None:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        converse(connection)

            thread = threading.Thread(target=run)
            stack.callback(thread.join)
            thread.start()
            return f"http://{LOOPBACK}:{listener.getsockname()[1]}/"

        yield start


def failure(url: str) -> PublishingError:
    with pytest.raises(PublishingError) as caught:
        WebApi(url, HEADER).send("GET", "x")
    assert "secretsecret" not in f"{caught.value!r}{caught.value.__cause__!r}"
    return caught.value


def test_a_request_has_the_token_and_json() -> None:
    with DesecServer({"example.dedyn.io": 3600}) as server:
        answer = WebApi(server.url, f"Token {server.add_token()}").send("PATCH", "domains/example.dedyn.io/rrsets/", [])
    assert (answer.status, answer.document(), answer.is_success) == (200, [], True)
    (request,) = server.requests
    assert request.document == []


def test_an_answer_that_is_not_http_is_named(serve: Callable[..., str]) -> None:
    assert "is not HTTP" in failure(serve(lambda connection: connection.sendall(b"SSH-2.0-x\r\n"))).fact


def test_a_connection_that_is_closed_is_named(serve: Callable[..., str]) -> None:
    assert "closed the connection without an answer" in failure(serve(lambda connection: None)).fact


def test_a_server_that_is_down_is_named() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(f"http://{LOOPBACK}:{port}/")
    assert f"{LOOPBACK}:{port} cannot be reached: Connection refused" in error.fact
    assert "check the network" in error.hint


def test_a_host_without_address_is_named() -> None:
    assert failure("https://nonexistent.invalid/").fact.startswith("nonexistent.invalid cannot be reached: ")


def test_a_silent_server_is_not_waited_for(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_api, "_SECONDS", 0.2)
    assert "did not answer in time" in failure(serve(lambda connection: time.sleep(0.5))).fact


def test_a_slow_answer_is_not_waited_for(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_api, "_MAX_ANSWER_SECONDS", 0.3)

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.02)

    started = time.monotonic()
    assert "did not answer in time" in failure(serve(trickle)).fact
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("part", [b"x", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_slow_headers_are_not_waited_for(
    part: bytes, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_api, "_MAX_ANSWER_SECONDS", 0.3)

    def trickle(connection: socket.socket) -> None:
        for _ in range(150):
            connection.sendall(part)
            time.sleep(0.02)

    started = time.monotonic()
    assert "did not answer in time" in failure(serve(trickle)).fact
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 10000000\r\n"])
def test_a_large_answer_is_not_read(framing: bytes, serve: Callable[..., str]) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        for _ in range(10_000):
            connection.sendall(b"x" * 1000)

    assert "is too large" in failure(serve(flood)).fact


def test_an_endless_header_is_not_read(serve: Callable[..., str]) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(10_000):
            connection.sendall(b"x" * 1000)

    assert "is not HTTP" in failure(serve(flood)).fact


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_gets_the_token(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with DesecServer({}) as proxy, DesecServer({}) as server:
        monkeypatch.setenv(variable, proxy.origin)
        WebApi(server.url, HEADER).send("GET", "domains/x/")
        assert len(server.requests) == 1
        assert not proxy.requests


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    extensions = [
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
    ]
    files = ["-subj", "/CN=localhost", "-keyout", str(path), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run([*new, *extensions, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    return path


@pytest.fixture
def secure_server(certificate: Path) -> Iterator[DesecServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with DesecServer({"example.dedyn.io": 3600}, tls=context) as server:
        yield server


def test_a_server_with_a_certificate_of_a_trusted_ca_is_asked(
    secure_server: DesecServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    api = WebApi(secure_server.url, f"Token {secure_server.add_token()}")
    assert api.send("GET", "domains/example.dedyn.io/").is_success


def test_a_server_with_another_certificate_gets_no_token(secure_server: DesecServer) -> None:
    error = failure(secure_server.url)
    assert "is not valid: self" in error.fact
    assert "the token was not sent" in error.hint
    assert not secure_server.requests


def test_a_server_with_another_name_gets_no_token(
    secure_server: DesecServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    error = failure(secure_server.url.replace("localhost", LOOPBACK))
    assert "is not valid: IP address mismatch" in error.fact
    assert not secure_server.requests


def test_a_server_without_tls_is_named() -> None:
    with DesecServer({}) as server:
        assert failure(server.url.replace("http:", "https:")).fact.startswith("TLS with 127.0.0.1:")
