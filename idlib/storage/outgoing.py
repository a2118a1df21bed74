"""A message that is to be sent, and whether it is small enough; without SQLite, which only the outbox needs."""

from dataclasses import dataclass, field
from typing import Final

# More than what signing adds to the content in base64: the longest names, content type and signature.
_SIGNING_OCTETS: Final = 2560


@dataclass(frozen=True, slots=True)
class NewOutgoingMessage:
    """A message to be queued.

    Args:
        recipient: The recipient's name.
        identifier: The `jti` of the message, the same each time it is sealed.
        content: The text of the message, or the bytes of content that has a type.
        queued_at: When it was queued, in seconds since the epoch.
        lifetime: How many seconds later it expires; None if it does not expire.
        was_sealed_to_epoch: Whether it may have been published, encrypted to an epoch key: then it is never encrypted
            to an identity key.
        content_type: The media type of the content; None for a text.

    Raises:
        ValueError: A text has a type, or bytes have none.
    """

    recipient: str
    identifier: str
    content: str | bytes
    queued_at: int
    lifetime: int | None
    was_sealed_to_epoch: bool = field(default=False, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.content, bytes) != (self.content_type is not None):
            raise ValueError("a text has no content type, and bytes need one")


def in_base64(octets: int) -> int:
    """Return how many bytes a number of bytes takes in base64url without padding: four for every three."""
    return (octets * 4 + 2) // 3


def surely_fits(content: str | bytes, limit: int) -> bool:
    """Return whether content is so small that `Sealer.check` accepts it whatever the key, the names and its type.

    Args:
        content: The content; if it is a text, UTF-8 can encode it.
        limit: The largest size of a message in bytes when it is signed and encrypted.
    """
    octets = len(content if isinstance(content, bytes) else content.encode())
    return octets > 0 and in_base64(in_base64(octets) + _SIGNING_OCTETS) <= limit
