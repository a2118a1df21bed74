"""DNS over HTTPS (RFC 8484), over HTTP/2 only: several resolvers, Unbound and BIND among them, know nothing older."""

import ssl
from contextlib import suppress
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from idlib.discovery.channel import ChannelError, LostConnectionError
from idlib.discovery.host_addresses import HostAddresses
from idlib.discovery.tls_connection import TlsStream
from idlib.discovery.tls_faults import Peer
from idlib.settings import HttpsResolver

_CONTENT_TYPE: Final = b"application/dns-message"
_MAX_MESSAGE: Final = 65535
_MAX_HEADER_BYTES: Final = 16384
# Of all frames in answer to one query: the largest message, its headers, and what a server may send besides.
_MAX_BYTES: Final = 262144
_PORTION_BYTES: Final = 65536
_STATUS_DIGITS: Final = 3
_OK: Final = 200
_TRY_AGAIN: Final = "try again; if it stays so, set DNS_RESOLVER to another resolver"
_HINTS: Final = {
    400: "check the path in DNS_RESOLVER, which is /dns-query at most resolvers",
    401: "set DNS_RESOLVER to a resolver that needs no login",
    403: "the resolver does not serve this device: ask its operator, or set DNS_RESOLVER to another resolver",
    404: "check the path in DNS_RESOLVER, which is /dns-query at most resolvers",
    405: "check the path in DNS_RESOLVER: the resolver must take the method POST there",
    415: "check the path in DNS_RESOLVER: no DNS server is there",
    429: "this network has asked too often: wait, or set DNS_RESOLVER to another resolver",
}
_NOT_DNS: Final = "check the path in DNS_RESOLVER: no DNS server is there"


class HttpsConnector:
    """Opens connections to a resolver; any number of threads may share it.

    Args:
        address: DNS_RESOLVER.
        context: The settings of TLS.
    """

    def __init__(self, address: HttpsResolver, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        self._address = address
        self._context = context
        self._addresses = HostAddresses(address)
        self._peer = Peer(
            address.certified, address.port, "set the host in DNS_RESOLVER to the one that the operator publishes"
        )

    def connect(self, deadline: float) -> "HttpsConnection":
        """Return a new connection, to the first of the host's addresses that proves to be the host.

        Args:
            deadline: When to give up, as `time.monotonic` counts.

        Raises:
            ChannelError: The host has no address, or cannot be reached or verified at any.
        """
        return self._addresses.try_each(self._connect_to, deadline)

    def _connect_to(self, address: str, deadline: float) -> "HttpsConnection":
        stream = TlsStream.connect(address, self._peer, self._context, deadline)
        if stream.protocol != "h2":
            stream.close()
            raise ChannelError(
                "does not offer HTTP/2", "check the port in DNS_RESOLVER, or set it to a resolver that offers HTTP/2"
            )
        return HttpsConnection(stream, self._address)


class HttpsConnection:
    """A connection of HTTP/2 that carries one query at a time.

    Args:
        stream: The connection, on which HTTP/2 was agreed on.
        address: Where queries are sent.
    """

    def __init__(self, stream: TlsStream, address: HttpsResolver) -> None:
        self._stream = stream
        self._headers = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", address.authority.encode()),
            (b":path", address.path.encode()),
            (b"accept", _CONTENT_TYPE),
            (b"content-type", _CONTENT_TYPE),
        ]
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self._http.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADER_BYTES,
            },
        )
        # Else it would hold only once the server has acknowledged it.
        self._http.decoder.max_header_list_size = _MAX_HEADER_BYTES
        self._http.initiate_connection()

    def exchange(self, query: bytes, deadline: float) -> bytes:
        """Return the bytes that the server answers to those of a query.

        Args:
            query: A whole DNS message.
            deadline: When to give up.

        Raises:
            LostConnectionError: The connection is gone, or there is no answer in time.
            ChannelError: It answers something else than a DNS message.
        """
        try:
            number = self._http.get_next_available_stream_id()
            self._http.send_headers(number, [*self._headers, (b"content-length", str(len(query)).encode())])
            self._http.send_data(number, query, end_stream=True)
            self._stream.send(self._http.data_to_send(), deadline)
            return self._answer(number, deadline)
        except h2.exceptions.H2Error as error:
            raise LostConnectionError("breaks the rules of HTTP/2", _TRY_AGAIN) from error

    def is_open(self) -> bool:
        """Return whether another query can be sent: the server has not ended the connection."""
        try:
            waiting = self._stream.receive_waiting(_PORTION_BYTES)
            events = self._http.receive_data(waiting) if waiting else []
        except (LostConnectionError, h2.exceptions.H2Error):
            return False
        return not any(isinstance(event, h2.events.ConnectionTerminated) for event in events)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def _answer(self, number: int, deadline: float) -> bytes:
        body = b""
        received = 0
        while True:
            data = self._stream.receive(_PORTION_BYTES, deadline)
            received += len(data)
            if received > _MAX_BYTES:
                raise ChannelError(f"sends more than {_MAX_BYTES} bytes for one answer", _TRY_AGAIN)
            for event in self._http.receive_data(data):
                match event:
                    case h2.events.ConnectionTerminated():
                        raise LostConnectionError("closed the connection without an answer", _TRY_AGAIN)
                    case h2.events.StreamReset() if event.stream_id == number:
                        raise LostConnectionError("broke off its answer", _TRY_AGAIN)
                    case h2.events.ResponseReceived() if event.stream_id == number:
                        _check_head(dict(event.headers or ()))
                    case h2.events.DataReceived() if event.stream_id == number:
                        body += event.data or b""
                        self._http.acknowledge_received_data(event.flow_controlled_length or 0, number)
                    case h2.events.StreamEnded() if event.stream_id == number:
                        # What the server is told besides need not be sent for this answer to be complete.
                        with suppress(LostConnectionError, TimeoutError):
                            self._flush(deadline)
                        return body
            if len(body) > _MAX_MESSAGE:
                raise ChannelError(f"answers with more than {_MAX_MESSAGE} bytes", _NOT_DNS)
            self._flush(deadline)

    def _flush(self, deadline: float) -> None:
        if data := self._http.data_to_send():
            self._stream.send(data, deadline)


def _check_head(headers: dict[bytes, bytes]) -> None:
    """Raise ChannelError unless a DNS message follows."""
    text = headers.get(b":status", b"")
    # Python refuses to read a number of thousands of digits (RFC 9110, section 15: a status has three).
    status = int(text) if len(text) == _STATUS_DIGITS and text.isdigit() else 0
    if 300 <= status < 400:
        raise ChannelError(
            f"answers with a redirect (HTTP status {status}), which is not followed",
            "set DNS_RESOLVER to the address that the resolver's operator publishes",
        )
    if status != _OK:
        raise ChannelError(f"answers with HTTP status {status}", _HINTS.get(status, _TRY_AGAIN))
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _CONTENT_TYPE:
        raise ChannelError("answers with something other than a DNS message, by its content type", _NOT_DNS)
