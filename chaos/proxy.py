"""A TCP proxy on loopback in front of the broker, whose connections can be cut, held up and refused."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self

_LOOPBACK: Final = "127.0.0.1"
_PORTION_OCTETS: Final = 65536
_CONNECT_SECONDS: Final = 2.0


class Proxy:
    """Passes connections on to a port of loopback, each way in a thread of its own.

    Args:
        target: The port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server((_LOOPBACK, 0))
        self.port = int(self._server.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._flowing.set()
        self.cut()

    def cut(self) -> None:
        """Break every connection, with whatever is under way."""
        with self._lock:
            connections = tuple(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Pass nothing on until `release`, also of new connections."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass on again, beginning with what was held."""
        self._flowing.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection((_LOOPBACK, self._target), _CONNECT_SECONDS) as broker,
        ):
            broker.settimeout(None)
            with self._lock:
                self._open |= {client, broker}
            try:
                back = threading.Thread(target=self._pass_on, args=(broker, client), daemon=True)
                back.start()
                self._pass_on(client, broker)
                back.join()
            finally:
                with self._lock:
                    self._open -= {client, broker}

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while portion := source.recv(_PORTION_OCTETS):
                self._flowing.wait()
                target.sendall(portion)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
