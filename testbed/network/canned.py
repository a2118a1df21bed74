"""A server that gives everyone the same bytes, whatever it is asked: a captive portal, or a proxy that lies.

As a program: `canned.py ADDRESS PORT SECONDS ANSWER_IN_HEX [PEM]`.
"""

import contextlib
import socketserver
import ssl
import sys
import time
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    # A script has its own directory on the path, not the root of the checkout.
    sys.path[0] = str(Path(__file__).parents[2])

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import Daemon

_READY: Final = "answering"
_MAX_REQUEST_BYTES: Final = 65536
_HTML: Final = b"<!DOCTYPE html><html><title>Welcome</title>Please log in.</html>"
_HEAD: Final = b"Content-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(_HTML)
PORTAL_PAGE: Final = b"HTTP/1.1 200 OK\r\n" + _HEAD + _HTML
BAD_GATEWAY: Final = b"HTTP/1.1 502 Bad Gateway\r\n" + _HEAD + _HTML


class Canned(Daemon):
    """A server that waits for the first bytes of a client, sends its answer and closes.

    Args:
        directory: An existing directory for its log.
        address: Its address.
        answer: What it sends; nothing only closes.
        port: Its port.
        pem: A file with a certificate and its key, for TLS; None for no TLS.
        seconds: How long it waits before it answers.
        namespace: The network namespace that it runs in.
    """

    def __init__(
        self,
        directory: Path,
        address: str,
        answer: bytes,
        *,
        port: int = 443,
        pem: Path | None = None,
        seconds: float = 0,
        namespace: Namespace | None = None,
    ) -> None:
        arguments = [address, str(port), str(seconds), answer.hex(), *([] if pem is None else [str(pem)])]
        super().__init__(
            [sys.executable, __file__, *arguments], directory / "canned.log", lambda log: _READY in log, namespace
        )


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, port: int, seconds: float, answer: bytes, context: ssl.SSLContext | None) -> None:
        self.seconds = seconds
        self.answer = answer
        self.context = context
        super().__init__((address, port), _Handler)


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


def _main(address: str, port: str, seconds: str, answer: str, pem: str = "") -> None:
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    with _Server(address, int(port), float(seconds), bytes.fromhex(answer), context) as server:
        print(_READY, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _main(*sys.argv[1:])
