"""A network between a resolver and the name servers: each round trip to a port of loopback takes as long as real ones.

As a program, it forwards to servers: `delay.py ADDRESS FROM:TO ...`, with ports for UDP and TCP.
"""

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    # A script has its own directory on the path, not the root of the checkout.
    sys.path[0] = str(Path(__file__).parents[2])

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon

SHORTEST_SECONDS: Final = 0.05
LONGEST_SECONDS: Final = 0.2
_ANSWER_SECONDS: Final = 10.0
_PORTION_BYTES: Final = 65536
_READY: Final = "delaying"


class Delay(Daemon):
    """A process that forwards DNS to name servers on loopback and delays each answer by 50 to 200 ms.

    Args:
        directory: An existing directory for its log.
        targets: The port of the server for each port on which it listens.
        address: The address of both, of loopback.
        namespace: The network namespace that it runs in.
    """

    def __init__(
        self,
        directory: Path,
        targets: Mapping[int, int],
        *,
        address: str = LOOPBACK,
        namespace: Namespace | None = None,
    ) -> None:
        ports = [f"{port}:{target}" for port, target in targets.items()]
        super().__init__(
            [sys.executable, __file__, address, *ports], directory / "delay.log", lambda log: _READY in log, namespace
        )


def _round_trip() -> float:
    return random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)


class _Answers(asyncio.DatagramProtocol):
    """The answer to one query, on a separate socket, so that it is sent back to the right client."""

    def __init__(self, front: asyncio.DatagramTransport, client: tuple[str, int]) -> None:
        self._front = front
        self._client = client
        self._back: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._back = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asyncio.get_running_loop().call_later(_round_trip(), self._front.sendto, data, self._client)
        assert self._back is not None
        self._back.close()


class _Queries(asyncio.DatagramProtocol):
    def __init__(self, address: str, target: int) -> None:
        self._address = address
        self._target = target
        self._front: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._front = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.create_task(self._forward(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, query: bytes, client: tuple[str, int]) -> None:
        front = self._front
        assert front is not None
        loop = asyncio.get_running_loop()
        back, _ = await loop.create_datagram_endpoint(
            lambda: _Answers(front, client), remote_addr=(self._address, self._target)
        )
        back.sendto(query)
        loop.call_later(_ANSWER_SECONDS, back.close)


async def _forward_stream(
    address: str, target: int, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
) -> None:
    with suppress(OSError):
        # The handshake with a distant server takes a round trip too.
        await asyncio.sleep(_round_trip())
        server, to_server = await asyncio.open_connection(address, target)
        await asyncio.gather(_copy(client, to_server, 0), _copy(server, to_client, _round_trip()))
        to_server.close()
    to_client.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    with suppress(OSError):
        while portion := await source.read(_PORTION_BYTES):
            await asyncio.sleep(seconds)
            sink.write(portion)
            await sink.drain()
        sink.write_eof()


async def _main(address: str, ports: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    for pair in ports:
        port, target = map(int, pair.split(":"))
        await loop.create_datagram_endpoint(partial(_Queries, address, target), local_addr=(address, port))
        await asyncio.start_server(partial(_forward_stream, address, target), address, port)
    print(_READY, flush=True)
    await loop.create_future()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2:]))
