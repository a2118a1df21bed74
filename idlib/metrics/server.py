"""A small HTTP server in one thread, which no client can make wait, grow or end.

The server of prometheus_client has a thread for each connection and no limits.
"""

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from idlib.metrics.requests import answer, is_complete
from idlib.settings import ServerAddress
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 16
# From the moment a connection is accepted until its answer has been read.
CONNECTION_SECONDS: Final = 5.0
# A page is made at most this often, however often it is asked for.
PAGE_SECONDS: Final = 1.0
_PORTION_BYTES: Final = 4096
_BACKLOG: Final = 128
_PAUSE_SECONDS: Final = 1.0


@dataclass(eq=False, slots=True)
class _Connection:
    """A connection, from its request until the client has read the answer.

    Args:
        socket: Does not block.
        deadline: When it is closed at the latest, on the monotonic clock.
    """

    socket: socket.socket
    deadline: float
    received: bytes = field(default=b"", init=False)
    to_send: bytes | None = field(default=None, init=False)
    is_answered: bool = field(default=False, init=False)


class MetricsServer:
    """Answers requests in a thread of its own until it is closed.

    Args:
        address: Where it listens.
        page: Returns the page; called by the thread. If it fails, that is logged once.

    Raises:
        OSError: It cannot listen there.
    """

    def __init__(self, address: ServerAddress, page: Callable[[], bytes]) -> None:
        self._page = page
        self._made_at = -PAGE_SECONDS
        # None if the last attempt failed.
        self._made: bytes | None = b""
        self._connections: dict[socket.socket, _Connection] = {}
        self._listener = _listen(address)
        self.port = int(self._listener.getsockname()[1])
        self._accepts_again_at = 0.0
        self._outage = FailureLog(_LOG)
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="Metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and close all connections."""
        self._waker.close()
        self._thread.join()

    def _serve(self) -> None:
        is_open = True
        while is_open:
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is self._woken:
                    is_open = False
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Connection) and key.data.socket in self._connections:
                    self._proceed(key.data)
            self._close_overdue()
        for connection in tuple(self._connections.values()):
            self._close(connection)
        self._selector.close()
        self._listener.close()
        self._woken.close()

    def _patience(self) -> float | None:
        """Return for how many seconds nothing is due unless something arrives; None for any time."""
        due = [connection.deadline for connection in self._connections.values()]
        if self._accepts_again_at:
            due.append(self._accepts_again_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            # The client has given up.
            return
        except OSError as error:
            # For example, no file descriptor is free; the connection waits until one is.
            self._outage.begin(f"Requests for metrics cannot be accepted: {error.strerror}")
            self._selector.unregister(self._listener)
            self._accepts_again_at = time.monotonic() + _PAUSE_SECONDS
            return
        self._outage.end()
        accepted.settimeout(0.0)
        if len(self._connections) >= MAX_CONNECTIONS:
            # The oldest, so that clients that only hold connections cannot keep Prometheus out.
            self._close(next(iter(self._connections.values())))
        connection = _Connection(accepted, time.monotonic() + CONNECTION_SECONDS)
        self._connections[accepted] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _proceed(self, connection: _Connection) -> None:
        try:
            if connection.to_send is None:
                self._receive(connection)
            if connection.to_send is not None:
                self._send(connection)
        except BlockingIOError:
            pass
        except OSError:
            # The client has disconnected.
            self._close(connection)

    def _receive(self, connection: _Connection) -> None:
        portion = connection.socket.recv(_PORTION_BYTES)
        if not portion:
            self._close(connection)
        elif not connection.is_answered:
            connection.received += portion
            if is_complete(connection.received):
                connection.to_send = self._answer(connection.received)
                connection.received = b""
                self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)

    def _send(self, connection: _Connection) -> None:
        assert connection.to_send is not None  # noqa: S101  # for mypy
        sent = connection.socket.send(connection.to_send)
        connection.to_send = connection.to_send[sent:]
        if not connection.to_send:
            # What the client still sends is read until it closes the connection: to close it first could make the
            # client lose the answer (RFC 9112, section 9.6).
            connection.to_send, connection.is_answered = None, True
            connection.socket.shutdown(socket.SHUT_WR)
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _answer(self, request: bytes) -> bytes:
        return answer(request, self._present_page)

    def _present_page(self) -> bytes | None:
        if time.monotonic() - self._made_at >= PAGE_SECONDS:
            try:
                self._made = self._page()
            except Exception:  # noqa: BLE001  # one internal error must not end the thread
                if self._made is not None:
                    _LOG.exception("Internal error while collecting metrics")
                self._made = None
            self._made_at = time.monotonic()
        return self._made

    def _close_overdue(self) -> None:
        now = time.monotonic()
        if self._accepts_again_at and now >= self._accepts_again_at:
            self._accepts_again_at = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)
        for connection in tuple(self._connections.values()):
            if now >= connection.deadline:
                self._close(connection)

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.socket]
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _listen(address: ServerAddress) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections of the process before are not in the way.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.address, address.port))
        listener.listen(_BACKLOG)
        listener.settimeout(0.0)
    except (OSError, OverflowError):
        with contextlib.suppress(OSError):
            listener.close()
        raise
    return listener
