"""A resolver with an encrypted path, for the look-ups that dnspython makes."""

import time
from typing import Any

import dns.message
import dns.nameserver
import dns.query

from idlib.discovery.channel import Channel
from idlib.discovery.resolver import PADDED_TO


class EncryptedServer(dns.nameserver.Nameserver):
    """A resolver that dnspython asks over its encrypted path only.

    Args:
        channel: The path.
        address: Where it is, for messages.
    """

    def __init__(self, channel: Channel, address: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._channel = channel
        self._address = address

    def __str__(self) -> str:
        return self._address

    def kind(self) -> str:
        """Return how it is asked."""
        return "encrypted"

    def is_always_max_size(self) -> bool:
        """Return true: no answer is truncated."""
        return True

    def answer_nameserver(self) -> str:
        """Return where it is."""
        return self._address

    def answer_port(self) -> int:
        """Return 0: the port is part of the address."""
        return 0

    def query(self, request: dns.message.QueryMessage, timeout: float, *_: Any, **__: Any) -> dns.message.Message:
        """Return the answer to a query.

        Args:
            request: The query; it is sent with padding (RFC 8467) and the ID that the path wants.
            timeout: How many seconds it may take.

        Raises:
            ChannelError: There is no answer.
            dns.exception.DNSException: What it sent is not the answer.
        """
        asked = request.question[0]
        padded = dns.message.make_query(
            asked.name,
            asked.rdtype,
            asked.rdclass,
            use_edns=0,
            flags=request.flags,
            id=self._channel.new_identifier(),
            pad=PADDED_TO,
        )
        wire = self._channel.exchange(padded.to_wire(), time.monotonic() + timeout)
        response = dns.message.from_wire(wire)
        if not padded.is_response(response):
            raise dns.query.BadResponse
        return response
