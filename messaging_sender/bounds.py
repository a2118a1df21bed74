"""How large a message may be, and how long it lives."""

import time
from typing import Final

from idlib.errors import MessageError
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system.times import MAX_MESSAGE_AGE_SECONDS

# The broker may drop messages that the recipient has not fetched by then.
MESSAGE_EXPIRY_SECONDS: Final = 7 * 24 * 3600
# Messages queued for longer make the resident sender unhealthy.
PATIENCE_SECONDS: Final = 600
# More than a receipt with the longest names and the largest keys has; anything larger is another message.
MAX_RECEIPT_OCTETS: Final = 8192


def seconds_at_the_broker(message: NewOutgoingMessage) -> int:
    """Return after how many seconds from now the broker may drop a message."""
    if message.lifetime is None:
        return MESSAGE_EXPIRY_SECONDS
    return max(1, min(message.queued_at + message.lifetime - int(time.time()), MESSAGE_EXPIRY_SECONDS))


def expires_at(message: NewOutgoingMessage) -> int:
    """Return when a message expires or becomes too old for recipients to accept, in seconds since the epoch."""
    lifetime = MESSAGE_EXPIRY_SECONDS if message.lifetime is None else message.lifetime
    return message.queued_at + min(lifetime, MAX_MESSAGE_AGE_SECONDS)


def too_large(what: str, limit: int) -> MessageError:
    """Return the error that a message is too large.

    Args:
        what: Its size, in words.
        limit: The limit in bytes.
    """
    return MessageError(
        f"the message is too large: {what} (limit: {limit})",
        "shorten it, or raise MAX_MESSAGE_SIZE on both sides",
    )


def end_of_life(message: NewOutgoingMessage, now: int) -> int | None:
    """Return when a message expires, in seconds since the epoch, or None if it does not.

    Args:
        message: The message.
        now: Seconds since the epoch.

    Raises:
        MessageError: It has expired.
    """
    if message.lifetime is None:
        return None
    end = message.queued_at + message.lifetime
    if end <= now:
        raise MessageError("the message expired before it could be sent", "give more seconds with --expires")
    return end
