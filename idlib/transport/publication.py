"""A message to publish, with the broker's answer as soon as there is one."""

import concurrent.futures
from dataclasses import dataclass, field
from typing import Final

# The most bytes that a PUBLISH packet has besides topic and payload (MQTT 5, section 3.3): type and length 5, length of
# the topic 2, packet identifier 2, properties 6.
_PACKET_OVERHEAD_BYTES: Final = 15


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """A message to publish, acknowledged or not yet.

    Args:
        topic: Where it is published.
        payload: What is published.
        lifetime: After how many seconds the broker may drop it.
        answer: The broker's reason code, or why the message was not sent.
    """

    topic: str
    payload: bytes = field(repr=False)
    lifetime: int
    answer: "concurrent.futures.Future[int]" = field(default_factory=concurrent.futures.Future, repr=False)

    @property
    def size(self) -> int:
        """How many bytes it has as a packet, at most."""
        return len(self.topic.encode()) + len(self.payload) + _PACKET_OVERHEAD_BYTES
