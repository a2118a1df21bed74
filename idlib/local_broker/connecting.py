"""Connects to the local broker, and makes sure that it may be used before a login is sent."""

from idlib.errors import TransportError
from idlib.local_broker.hints import hint_for_error
from idlib.local_broker.separation import check_is_another_broker, route_of
from idlib.transport import Broker
from idlib.transport.client import PacketClient
from idlib.transport.connection import Connector


def connect(connector: Connector, client: PacketClient, local: Broker, public: Broker) -> None:
    """Connect, and check where the connection leads before anything is sent over it.

    Args:
        connector: Of the local broker.
        client: From `connector`, used once.
        local: The local broker.
        public: The broker through which devices reach each other, which the local one must not be.

    Raises:
        TransportError: The broker was not reached, or must not be used.
    """
    try:
        connector.connect(client)
    except TransportError as error:
        fact = error.fact.replace("the broker", "the local broker", 1)
        raise TransportError(fact, hint_for_error(local, error.__cause__)) from error
    connected = client.socket()
    if connected is None:
        raise TransportError(f"the local broker {local} closed the connection")
    try:
        route = route_of(connected.fileno())
    except OSError as error:
        raise TransportError(f"the local broker {local} closed the connection: {error.strerror}") from error
    check_is_another_broker(local, public, route)
