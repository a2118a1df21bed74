"""An encrypted path without a network: a test's function answers queries, or the path fails."""

import dns.message

from idlib.discovery.channel import ChannelError
from testbed.name_server import Respond

IDENTIFIER = 4711


class FakeChannel:
    """A path to a resolver.

    Args:
        respond: Returns the bytes of each answer; None if the path fails.
    """

    def __init__(self, respond: Respond | None) -> None:
        self._respond = respond
        self.queries: list[bytes] = []

    def new_identifier(self) -> int:
        """Return always the same ID, as over HTTPS."""
        return IDENTIFIER

    def exchange(self, query: bytes, deadline: float) -> bytes:
        """Return the answer.

        Args:
            query: A DNS message.
            deadline: Not used.
        """
        self.queries.append(query)
        if self._respond is None:
            raise ChannelError("shows a certificate that no trusted CA has issued", "name its file in DNS_CA_FILE")
        return self._respond(dns.message.from_wire(query), True)[0]  # noqa: FBT003  # it is not UDP
