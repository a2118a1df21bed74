"""What became of a message, for whoever reads stdout as JSON."""

from enum import StrEnum

from idlib.output import json_object
from idlib.storage.outbox import NewOutgoingMessage
from idlib.system.interruption import Terminated


class SendResult(StrEnum):
    """What became of a message."""

    ACKNOWLEDGED = "acknowledged"
    NO_SUBSCRIBER = "no-subscriber"
    PRINTED = "printed"
    QUEUED = "queued"
    UNACKNOWLEDGED = "unacknowledged"
    FAILED = "failed"


def report(
    message: NewOutgoingMessage,
    fate: SendResult,
    *,
    size: int | None = None,
    error: BaseException | None = None,
    warning: str | None = None,
) -> str:
    """Return as a JSON object on one line what became of a message.

    Args:
        message: Which.
        fate: What became of it.
        size: Its octets, signed and encrypted; None where it has not come that far.
        error: Why it came no farther, an interruption too; None where nothing was wrong.
        warning: Why its recipient will refuse it; None if nothing is known against it.
    """
    return json_object(
        {
            "id": message.identifier,
            "recipient": message.recipient,
            "size": size,
            "result": fate,
            "reason": None if error is None else _reason_of(error),
            "warning": warning,
        }
    )


def _reason_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    return str(error)
