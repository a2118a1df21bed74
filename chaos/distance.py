"""A distant name server: a relay on loopback in front of it, over UDP and TCP, that delays each answer."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

_LOOPBACK: Final = "127.0.0.1"
_IDENTIFIERS: Final = 1 << 16
_IDENTIFIER_BYTES: Final = 2
_PORTION_BYTES: Final = 65536
_START_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 0.05


class Distance:
    """Relays queries to a port of loopback in a separate thread, during a `with` statement.

    Args:
        target: The port.
        port: Its own port, free for UDP and TCP.
        seconds: Returns the delay of an answer.
    """

    def __init__(self, target: int, port: int, seconds: Callable[[], float]) -> None:
        self.port = port
        self._target = target
        self._seconds = seconds
        self._is_silent = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._upstream: asyncio.DatagramTransport | None = None
        self._downstream: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[int, tuple[bytes, tuple[str, int]]] = {}
        self._next = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fall_silent(self) -> None:
        """Let no answer through until `speak`."""
        self._is_silent = True

    def speak(self) -> None:
        """Let answers through again."""
        self._is_silent = False

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_SECONDS)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._upstream, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._answered), remote_addr=(_LOOPBACK, self._target)
        )
        self._downstream, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._was_asked), local_addr=(_LOOPBACK, self.port)
        )
        self._server = await asyncio.start_server(self._serve, _LOOPBACK, self.port)

    async def _close(self) -> None:
        assert self._upstream is not None
        assert self._downstream is not None
        assert self._server is not None
        self._upstream.close()
        self._downstream.close()
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _was_asked(self, query: bytes, client: tuple[str, int]) -> None:
        # Queries of several ports share one socket towards the name server, so they get identifiers of their own.
        self._next = (self._next + 1) % _IDENTIFIERS
        self._asked[self._next] = (query[:_IDENTIFIER_BYTES], client)
        assert self._upstream is not None
        self._upstream.sendto(self._next.to_bytes(_IDENTIFIER_BYTES) + query[_IDENTIFIER_BYTES:])

    def _answered(self, answer: bytes, _: tuple[str, int]) -> None:
        asked = self._asked.pop(int.from_bytes(answer[:_IDENTIFIER_BYTES]), None)
        if asked is not None:
            identifier, client = asked
            self._loop.call_later(self._seconds(), self._send_back, identifier + answer[_IDENTIFIER_BYTES:], client)

    def _send_back(self, answer: bytes, client: tuple[str, int]) -> None:
        if self._downstream is not None and not self._is_silent and not self._downstream.is_closing():
            self._downstream.sendto(answer, client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError), contextlib.closing(writer):
            their_reader, their_writer = await asyncio.open_connection(_LOOPBACK, self._target)
            with contextlib.closing(their_writer):
                forth = asyncio.ensure_future(_relay(reader, their_writer))
                try:
                    await self._relay_late(their_reader, writer)
                finally:
                    forth.cancel()

    async def _relay_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while portion := await reader.read(_PORTION_BYTES):
            await asyncio.sleep(self._seconds())
            if not self._is_silent:
                writer.write(portion)
                await writer.drain()
        # A server that does not answer does not close the connection either.
        while self._is_silent:
            await asyncio.sleep(_SILENCE_SECONDS)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while portion := await reader.read(_PORTION_BYTES):
            writer.write(portion)
            await writer.drain()
        writer.write_eof()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Any], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Ignore that nothing listens at the target: the resolver retries."""
