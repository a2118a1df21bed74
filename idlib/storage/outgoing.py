"""A message that is to be sent; without SQLite, which only the outbox needs."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NewOutgoingMessage:
    """A message to be queued.

    Args:
        recipient: The recipient's name.
        identifier: The `jti` of the message, the same each time it is sealed.
        text: The text of the message.
        queued_at: When it was queued, in seconds since the epoch.
        lifetime: How many seconds later it expires; None if it does not expire.
        was_sealed_to_epoch: Whether it may have been published, encrypted to an epoch key: then it is never encrypted
            to an identity key.
    """

    recipient: str
    identifier: str
    text: str
    queued_at: int
    lifetime: int | None
    was_sealed_to_epoch: bool = field(default=False, kw_only=True)
