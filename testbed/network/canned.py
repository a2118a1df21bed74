"""A server that gives everyone the same bytes, whatever it is asked: a captive portal, or a proxy that lies.

As a program: `canned.py ADDRESS,SECONDS,ANSWER_IN_HEX,PEM ...`; without TLS the file is empty.
"""

import contextlib
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    # A script has its own directory on the path, not the root of the checkout.
    sys.path[0] = str(Path(__file__).parents[2])

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import Daemon

_PORT: Final = 443
_READY: Final = "answering"
_MAX_REQUEST_BYTES: Final = 65536
_HTML: Final = b"<!DOCTYPE html><html><title>Welcome</title>Please log in.</html>"
_HEAD: Final = b"Content-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_HTML)
PORTAL_PAGE: Final = b"HTTP/1.1 200 OK\r\n" + _HEAD + _HTML
BAD_GATEWAY: Final = b"HTTP/1.1 502 Bad Gateway\r\n" + _HEAD + _HTML

UPGRADE_WITHOUT_KEY: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent at one address, at port 443.

    Args:
        address: The address.
        octets: What is sent after the first bytes of a client; the connection is closed then.
        pem: A file with a certificate and its key, for TLS; None for no TLS.
        seconds: How long it waits before it answers.
    """

    address: str
    octets: bytes
    pem: Path | None = None
    seconds: float = 0

    def __str__(self) -> str:
        return f"{self.address},{self.seconds},{self.octets.hex()},{self.pem or ''}"


class Canned(Daemon):
    """A process that answers at each of some addresses.

    Args:
        directory: An existing directory for its log.
        answers: What it sends where.
        namespace: The network namespace that it runs in.
    """

    def __init__(self, directory: Path, *answers: Answer, namespace: Namespace) -> None:
        super().__init__(
            [sys.executable, __file__, *map(str, answers)],
            directory / "canned.log",
            lambda log: _READY in log,
            namespace,
        )


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, seconds: float, answer: bytes, context: ssl.SSLContext | None) -> None:
        self.seconds = seconds
        self.answer = answer
        self.context = context
        super().__init__((address, _PORT), _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        # A client that rejects the certificate, or is ended, is no concern of the server.
        with contextlib.suppress(OSError):
            connection = self.request
            if self.server.context is not None:
                connection = self.server.context.wrap_socket(connection, server_side=True)
            connection.recv(_MAX_REQUEST_BYTES)
            time.sleep(self.server.seconds)
            connection.sendall(self.server.answer)
            connection.close()


def _server(text: str) -> _Server:
    address, seconds, octets, pem = text.split(",")
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    return _Server(address, float(seconds), bytes.fromhex(octets), context)


def _main(texts: Sequence[str]) -> None:
    for server in map(_server, texts):
        threading.Thread(target=server.serve_forever).start()
    print(_READY, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
