"""A message handed to the session, with the broker's answer as soon as there is one."""

import concurrent.futures
from dataclasses import dataclass, field
from typing import Final

# What a PUBLISH packet has beside topic and payload, at most (MQTT 5, section 3.3): type and length 5, length of the
# topic 2, number 2, properties 6.
_PACKET_OVERHEAD_OCTETS: Final = 15


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """A message handed to the session, acknowledged or not yet.

    Args:
        topic: Where it is published.
        payload: What is published.
        lifetime: After how many seconds the broker may drop it.
        answer: The broker's reason code, or why it was not asked.
    """

    topic: str
    payload: bytes = field(repr=False)
    lifetime: int
    answer: "concurrent.futures.Future[int]" = field(default_factory=concurrent.futures.Future, repr=False)

    @property
    def size(self) -> int:
        """How many bytes it has as a packet, at most."""
        return len(self.topic.encode()) + len(self.payload) + _PACKET_OVERHEAD_OCTETS
