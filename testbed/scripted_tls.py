"""A TLS server on loopback that does with each connection what a test says."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.daemons.process import LOOPBACK

Converse = Callable[[ssl.SSLSocket], None]


class ScriptedTls:
    """The server; each connection has a thread of its own.

    Args:
        files: Its certificate and key.
        converse: Called with each connection after its handshake; the connection is closed when it returns.
        protocols: What it offers (ALPN).
        change: Changes its TLS context.
    """

    def __init__(
        self,
        files: tuple[Path, Path],
        converse: Converse,
        protocols: Sequence[str] = (),
        change: Callable[[ssl.SSLContext], None] = lambda _: None,
    ) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        if protocols:
            self._context.set_alpn_protocols(list(protocols))
        change(self._context)
        self._converse = converse
        self._listener = socket.create_server((LOOPBACK, 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that goes away is no fault of the test.
        with connection, contextlib.suppress(OSError):
            self._open.append(connection)
            with self._context.wrap_socket(connection, server_side=True) as secured:
                self._open.append(secured)
                self._converse(secured)
