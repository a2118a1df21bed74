"""A TCP proxy on loopback in front of the broker, whose connections can be cut, held and slowed down."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

_LOOPBACK: Final = "127.0.0.1"
_PORTION_BYTES: Final = 65536
_CONNECT_SECONDS: Final = 2.0
# In each direction, as with a distant broker, so that a killed program often has data in transit.
_USUAL_SECONDS: Final = 0.15
_SLOW_SECONDS: Final = 0.5
# Packets of the broker are delayed for longer than it needs to write its state to the disk.
_SAVING_SECONDS: Final = 0.25


class Proxy:
    """Forwards connections to a port of loopback, with a thread for each direction.

    Args:
        target: The port.
        there: The delay of what is sent to it, in seconds.
        back: The delay of what it sends, in seconds.
    """

    def __init__(self, target: int, there: float = _USUAL_SECONDS, back: float = _SAVING_SECONDS) -> None:
        self._target = target
        self._server = socket.create_server((_LOOPBACK, 0))
        self.port = int(self._server.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._usual_delay = self._delay = there
        self._shortest_delay_back = back
        self._deaths = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing the socket would not wake the accepting thread.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._flowing.set()
        self.cut()

    def cut(self) -> None:
        """Break every connection, and lose the data in transit."""
        with self._lock:
            connections = tuple(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def lose(self) -> None:
        """Lose the packets in transit from the broker, which was killed: some may not be on its disk."""
        self._deaths += 1

    def hold(self) -> None:
        """Forward nothing until `release`, also for new connections."""
        self._flowing.clear()

    def release(self) -> None:
        """Forward again, starting with the data that was held."""
        self._flowing.set()

    def slow_down(self) -> None:
        """Forward with a long delay until `speed_up`."""
        self._delay = _SLOW_SECONDS

    def speed_up(self) -> None:
        """Forward with the usual delay."""
        self._delay = self._usual_delay

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
                back = threading.Thread(target=self._bring_back, args=(broker, client), daemon=True)
                back.start()
                self._pass_on(client, broker)
                back.join()
            finally:
                with self._lock:
                    self._open -= {client, broker}

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while portion := source.recv(_PORTION_BYTES):
                time.sleep(self._delay)
                self._flowing.wait()
                target.sendall(portion)
        _end(source, target)

    def _bring_back(self, broker: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while portion := broker.recv(_PORTION_BYTES):
                deaths = self._deaths
                time.sleep(max(self._delay, self._shortest_delay_back))
                self._flowing.wait()
                if deaths != self._deaths:
                    break
                client.sendall(portion)
        _end(broker, client)


def _end(*connections: socket.socket) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
