"""A message to publish, with the broker's answer as soon as there is one."""

import concurrent.futures
from dataclasses import dataclass, field
from typing import Final

from idlib.system.uninterrupted import uninterrupted

# The most bytes that a PUBLISH packet has besides topic and payload (MQTT 5, section 3.3): type and length 5, length of
# the topic 2, packet identifier 2, properties 6.
_PACKET_OVERHEAD_BYTES: Final = 15
# Reason codes from here on are failures (MQTT 5, section 2.4).
FIRST_FAILURE: Final = 128
# MQTT 5, section 3.4.2.1. The number is not that of a failure, but the broker has dropped the message.
NO_MATCHING_SUBSCRIBERS: Final = 16


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
        return publish_size(self.topic, self.payload)

    @property
    def is_answered(self) -> bool:
        """Whether the broker has answered it, or it has failed."""
        with uninterrupted():
            return self.answer.done()

    @property
    def is_acknowledged(self) -> bool:
        """Whether the broker has acknowledged it, and has a subscriber for it."""
        with uninterrupted():
            return self.answer.done() and self.answer.exception() is None and not is_dropped(self.answer.result())

    @property
    def code(self) -> int:
        """The reason code with which the broker has answered it; raises why it has failed."""
        with uninterrupted():
            return self.answer.result()

    def is_answered_within(self, seconds: float) -> bool:
        """Wait until the broker has answered it or it has failed; return False if it takes longer.

        Args:
            seconds: How long to wait.
        """
        with uninterrupted():
            return bool(concurrent.futures.wait((self.answer,), seconds).done)


def publish_size(topic: str, payload: bytes) -> int:
    """Return how many bytes a message has as a packet, at most.

    Args:
        topic: Where it is published.
        payload: What is published.
    """
    return len(topic.encode()) + len(payload) + _PACKET_OVERHEAD_BYTES


def is_dropped(code: int) -> bool:
    """Return whether the broker delivers a message to no one.

    Args:
        code: Its answer.
    """
    return code >= FIRST_FAILURE or code == NO_MATCHING_SUBSCRIBERS
