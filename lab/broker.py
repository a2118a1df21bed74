"""An MQTT 3.1.1 broker on a free port of loopback, for everyone on this machine: for the demo only."""

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
    """Run a broker until the context is left; gives its address."""
    return in_background(_serving(), "broker")


@asynccontextmanager
async def _serving() -> AsyncIterator[ServerAddress]:
    # Clients disconnect all the time in the lab, and amqtt warns of each.
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
    # The listener is ours, because amqtt does not report which free port its own was given.
    async with listening(converse, socket.create_server((LOOPBACK, 0))) as address:
        yield address
    await broker.shutdown()
