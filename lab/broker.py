"""An MQTT 3.1.1 broker on a free port of loopback that anyone on this machine can use; for the demo only."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from idlib.settings import ServerAddress
from lab.background import in_background
from lab.listener import LOOPBACK, listening

_LISTENER: Final = "default"


def running() -> AbstractContextManager[ServerAddress]:
    """Run a broker until the context is left; yield its address."""
    return in_background(_serving(), "broker")


@asynccontextmanager
async def _serving() -> AsyncIterator[ServerAddress]:
    # In the demo clients disconnect often, and amqtt logs a warning each time.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    broker = Broker(
        BrokerConfig(
            listeners={_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
            plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        )
    )

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER)

    await broker.start()
    # We create the listener ourselves, because amqtt does not report which port its own was assigned.
    async with listening(converse, socket.create_server((LOOPBACK, 0))) as address:
        yield address
    await broker.shutdown()
