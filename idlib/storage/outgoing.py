"""A message that is to be sent; without SQLite, which only the outbox needs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewOutgoingMessage:
    """A message to be queued.

    Args:
        recipient: The recipient's name.
        identifier: The `jti` of the message, the same each time it is sealed.
        text: The text of the message.
        queued_at: When it was queued, in seconds since the epoch.
        lifetime: How many seconds later it expires; None if it does not expire.
    """

    recipient: str
    identifier: str
    text: str
    queued_at: int
    lifetime: int | None
