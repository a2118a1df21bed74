"""A TCP proxy on loopback in front of the broker, whose connections can be cut, held up and slowed down."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

_LOOPBACK: Final = "127.0.0.1"
_PORTION_OCTETS: Final = 65536
_CONNECT_SECONDS: Final = 2.0
# Each way, as to a broker far away: so that whoever is killed often has something under way.
_USUAL_SECONDS: Final = 0.15
_SLOW_SECONDS: Final = 0.5
# What the broker says is on its way for longer than the broker needs to write it to its disk.
_SAVING_SECONDS: Final = 0.25


class Proxy:
    """Passes connections on to a port of loopback, each way in a thread of its own.

    Args:
        target: The port.
        there: How long what is sent to it is under way, in seconds.
        back: How long what it sends is under way, in seconds.
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

    def lose(self) -> None:
        """Lose what is on its way from the broker, which was killed: some of it may not have come to its disk."""
        self._deaths += 1

    def hold(self) -> None:
        """Pass nothing on until `release`, also of new connections."""
        self._flowing.clear()

    def release(self) -> None:
        """Pass on again, beginning with what was held."""
        self._flowing.set()

    def slow_down(self) -> None:
        """Pass on with a long delay until `speed_up`."""
        self._delay = _SLOW_SECONDS

    def speed_up(self) -> None:
        """Pass on with the usual delay."""
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
            while portion := source.recv(_PORTION_OCTETS):
                time.sleep(self._delay)
                self._flowing.wait()
                target.sendall(portion)
        _end(source, target)

    def _bring_back(self, broker: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while portion := broker.recv(_PORTION_OCTETS):
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
