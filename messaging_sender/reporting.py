"""Reports the result of each message as JSON on stdout."""

from dataclasses import dataclass
from enum import StrEnum

from idlib.output import json_object
from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system.interruption import Terminated
from messaging_sender.sealed import Sealed


class SendResult(StrEnum):
    """The result of sending a message."""

    ACKNOWLEDGED = "acknowledged"
    NO_SUBSCRIBER = "no-subscriber"
    PRINTED = "printed"
    QUEUED = "queued"
    UNACKNOWLEDGED = "unacknowledged"
    FAILED = "failed"


@dataclass(slots=True)
class Outcome:
    """What is known about a message while it is being sent.

    Args:
        result: Its result so far.
        sealed: What is published; None if it is not sealed yet.
        warning: Why its recipient will refuse it; None if there is no known reason.
    """

    result: SendResult = SendResult.FAILED
    sealed: Sealed | None = None
    warning: str | None = None


def report(
    message: NewOutgoingMessage,
    result: SendResult,
    *,
    sealed: Sealed | None = None,
    error: BaseException | None = None,
    warning: str | None = None,
) -> str:
    """Return the result of a message as a JSON object on one line.

    Args:
        message: The message.
        result: Its result.
        sealed: What was published, or was to be; None if it was not sealed.
        error: What stopped it, possibly an interruption; None if nothing did.
        warning: Why its recipient will refuse it; None if there is no known reason.
    """
    # The resident sender seals a queued message again.
    published = None if sealed is None or result is SendResult.QUEUED else sealed
    return json_object(
        {
            "id": message.identifier,
            "recipient": message.recipient,
            "size": None if sealed is None else len(sealed.payload),
            "result": result,
            "reason": None if error is None else reason_of(error),
            "warning": warning,
            "sealed": None if published is None else published.kind,
            "readable_until": None if published is None else published.readable_until,
        }
    )


def reason_of(error: BaseException) -> str:
    """Return what stopped a message, in words.

    Args:
        error: An error, or an interruption.
    """
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    return str(error)
