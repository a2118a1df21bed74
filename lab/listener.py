"""A TCP listener that closes everything when it ends; asyncio's own leaves just accepted connections open."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Final

from idlib.settings import ServerAddress

LOOPBACK: Final = "127.0.0.1"

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(converse: Conversation, listener: socket.socket) -> AsyncIterator[ServerAddress]:
    """Accept connections until the context is left, then cancel every conversation and close its connection.

    Args:
        converse: Called for each connection, which is closed when it returns.
        listener: A socket that is bound to an IPv4 address; its address is yielded.
    """
    conversations: set[asyncio.Task[None]] = set()

    async def hold(connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        with closing(writer):
            await converse(reader, writer)

    def accept() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            conversation = asyncio.create_task(hold(connection))
            conversations.add(conversation)
            conversation.add_done_callback(conversations.discard)

    loop = asyncio.get_running_loop()
    with listener:
        listener.listen()
        listener.settimeout(0)
        loop.add_reader(listener, accept)
        try:
            yield ServerAddress(*listener.getsockname())
        finally:
            loop.remove_reader(listener)
            # A task that is cancelled before its first step would not close its connection.
            await asyncio.sleep(0)
            for conversation in conversations:
                conversation.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)
