"""Connections to a resolver over verified TLS, and DNS over TLS on them (RFC 7858; the strict profile of RFC 8310)."""

import ssl
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket
from typing import Final

from idlib.discovery.authorities import read_certificates_of
from idlib.discovery.channel import ChannelError, LostConnectionError, remaining
from idlib.discovery.tls_faults import Peer, fault_of_tls
from idlib.errors import ConfigurationError, quoted
from idlib.settings import HTTPS_PORT
from idlib.system import tls

_TRY_AGAIN: Final = "check the network, and try again"
_CHECK_PORT: Final = "try again; if it stays so, check the port in DNS_RESOLVER"


def verifying_context(authorities: Path | None) -> ssl.SSLContext:
    """Return the settings of TLS: version 1.2 or newer, and only certificates for the right name from these CAs.

    Args:
        authorities: DNS_CA_FILE; None for the system's CAs.

    Raises:
        ConfigurationError: The file cannot be read or holds no certificate.
    """
    if authorities is not None:
        read_certificates_of("DNS_CA_FILE", authorities)
    try:
        context = tls.verifying_context(authorities)
    except OSError as error:
        if authorities is None:
            raise
        raise ConfigurationError(
            f"Bad value of env var DNS_CA_FILE: {quoted(authorities)} cannot be used by OpenSSL"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 8310, section 8.1: the name is in subjectAltName.
    context.hostname_checks_common_name = False
    return context


class TlsStream:
    """A connection over TLS whose peer is verified; every step ends at a deadline.

    Args:
        connection: The socket, after the handshake.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, address: str, peer: Peer, context: ssl.SSLContext, deadline: float) -> "TlsStream":
        """Connect to a server, and verify it.

        Args:
            address: Its IP address.
            peer: Whom it must prove to be.
            context: The settings of TLS.
            deadline: When to give up, as `time.monotonic` counts.

        Raises:
            ChannelError: It cannot be reached or verified.
        """
        plain = socket(AF_INET6 if ":" in address else AF_INET, SOCK_STREAM)
        try:
            _reach(plain, address, peer.port, deadline)
            return cls(_verified(plain, peer, context, deadline))
        except BaseException:
            plain.close()
            raise

    @property
    def protocol(self) -> str | None:
        """The protocol that was agreed on (ALPN); None if the server does not negotiate one."""
        return self._connection.selected_alpn_protocol()

    def send(self, data: bytes, deadline: float) -> None:
        """Send bytes.

        Args:
            data: What to send.
            deadline: When to give up.

        Raises:
            LostConnectionError: The connection is gone, or the server does not take them in time.
        """
        view = memoryview(data)
        try:
            while view:
                self._connection.settimeout(remaining(deadline))
                view = view[self._connection.send(view) :]
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, size: int, deadline: float) -> bytes:
        """Return the next bytes, at least one.

        Args:
            size: The most bytes to return.
            deadline: When to give up.

        Raises:
            LostConnectionError: The connection is gone, or nothing comes in time.
        """
        try:
            self._connection.settimeout(remaining(deadline))
            data = self._connection.recv(size)
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise LostConnectionError("closed the connection without an answer", _CHECK_PORT)
        return data

    def receive_waiting(self, size: int) -> bytes:
        """Return bytes that have come already; empty if there are none.

        Args:
            size: The most bytes to return.

        Raises:
            LostConnectionError: The connection is gone.
        """
        try:
            self._connection.settimeout(0)
            data = self._connection.recv(size)
        except (ssl.SSLWantReadError, BlockingIOError):
            return b""
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise LostConnectionError("closed the connection", _CHECK_PORT)
        return data

    def close(self) -> None:
        """Close the connection; the server gets no farewell, which could block."""
        self._connection.close()

    def _lost(self, error: OSError) -> LostConnectionError:
        if isinstance(error, TimeoutError):
            return LostConnectionError("did not answer in time", _TRY_AGAIN)
        if isinstance(error, ssl.SSLError):
            return LostConnectionError("broke off TLS", _CHECK_PORT)
        return LostConnectionError(f"is no longer reached: {error.strerror or error}", _TRY_AGAIN)


class TlsConnection:
    """DNS over one connection, each message after its length (RFC 7858, section 3.3).

    Args:
        stream: The connection.
    """

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream

    def exchange(self, query: bytes, deadline: float) -> bytes:
        """Return the bytes that the server answers to those of a query.

        Args:
            query: A whole DNS message.
            deadline: When to give up.

        Raises:
            LostConnectionError: The connection is gone, or there is no answer in time.
        """
        self._stream.send(len(query).to_bytes(2) + query, deadline)
        return self._receive(int.from_bytes(self._receive(2, deadline)), deadline)

    def is_open(self) -> bool:
        """Return whether another query can be sent: the server has sent nothing after the last answer."""
        try:
            return not self._stream.receive_waiting(1)
        except LostConnectionError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def _receive(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            data += self._stream.receive(size - len(data), deadline)
        return data


def _reach(plain: socket, address: str, port: int, deadline: float) -> None:
    try:
        plain.settimeout(remaining(deadline))
        plain.connect((address, port))
        # Otherwise a query in several packets would wait for the server's delayed acknowledgement.
        plain.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    except TimeoutError as error:
        other = "" if port == HTTPS_PORT else "; the port of https://, 443, is blocked less often"
        raise ChannelError(
            "does not accept a connection in time", f"check the network: it may block port {port}{other}"
        ) from error
    except OSError as error:
        raise ChannelError(
            f"cannot be reached: {error.strerror or error}",
            f"check the address, that it serves encrypted DNS at port {port}, and the network",
        ) from error


def _verified(plain: socket, peer: Peer, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    try:
        plain.settimeout(remaining(deadline))
        return context.wrap_socket(plain, server_hostname=peer.certified)
    except TimeoutError as error:
        raise ChannelError(
            "does not answer the TLS handshake in time",
            f"check the port in DNS_RESOLVER: a server of DNS in clear text may use port {peer.port}",
        ) from error
    except ssl.SSLError as error:
        raise fault_of_tls(error, peer) from error
    except OSError as error:
        raise ChannelError(
            f"broke off the TLS handshake: {error.strerror or error}", "check the port in DNS_RESOLVER, and the network"
        ) from error
