"""A message that is to be sent; without SQLite, which only the outbox needs."""

from dataclasses import dataclass, field


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
