"""Opens the connection to a broker: directly or through a proxy, then TLS, then a WebSocket."""

import socket
import ssl
from typing import TYPE_CHECKING

from idlib.transport.broker import Broker

if TYPE_CHECKING:
    # Imported when it is needed, because it takes time and memory.
    from idlib.transport.websocket import WebSocket


class DialError(OSError):
    """Something between this device and the broker refuses the connection, or does not speak its protocol.

    Args:
        fact: What it answers.
        hint: What a user can do about it.
    """

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact)
        self.hint = hint


class TlsTimeoutError(TimeoutError):
    """A port accepted a connection, but did not answer in the TLS handshake in time."""


def dial(broker: Broker, timeout: float) -> "socket.socket | WebSocket":
    """Return a new connection to a broker, over which MQTT can be sent.

    Args:
        broker: The broker.
        timeout: Seconds that each of the layers may take.

    Raises:
        DialError: The proxy or the WebSocket server refuses.
        OSError: The broker or the proxy cannot be reached, or TLS fails.
        ValueError: The host name cannot be encoded.
    """
    connection = _connect(broker, timeout)
    try:
        if broker.tls is not None:
            connection = _encrypt(connection, broker.tls, broker.host, timeout)
        if broker.url is None or not broker.url.scheme.is_websocket:
            return connection
        from idlib.transport.websocket import open_websocket

        return open_websocket(connection, broker.url, timeout)
    except BaseException:
        connection.close()
        raise


def _connect(broker: Broker, timeout: float) -> socket.socket:
    if broker.proxy is None:
        return socket.create_connection((broker.host, broker.port), timeout)
    from idlib.transport.proxy import connect_through

    return connect_through(broker.proxy, broker.proxy_password, (broker.host, broker.port), timeout)


def _encrypt(connection: socket.socket, context: ssl.SSLContext, host: str, timeout: float) -> ssl.SSLSocket:
    connection.settimeout(timeout)
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except TimeoutError as error:
        raise TlsTimeoutError(f"no TLS answer within {timeout:g} s") from error
