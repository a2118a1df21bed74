"""A received message, read from the line that `dane-messenger receive` prints for it."""

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from idlib.errors import ReceiverError


class Acknowledgement:
    """Confirms one message to the receiver, once.

    Args:
        confirm: Confirms the message with a number.
        number: The number.
    """

    def __init__(self, confirm: Callable[[int], None], number: int) -> None:
        self._confirm = confirm
        self._number = number
        self.is_given = False

    def give(self) -> None:
        """Confirm the message, unless it is confirmed.

        Raises:
            IdlibError: The receiver has ended.
        """
        if not self.is_given:
            self._confirm(self._number)
            self.is_given = True


@dataclass(frozen=True, slots=True)
class Message:
    """An authenticated message to this device.

    Attributes:
        sender: The name whose key verified.
        content: The content, exactly as the sender signed it: UTF-8 if there is no content type.
        content_type: The media type of the content; None for a text.
        id: Its id; None if it is unbound.
        sent_at: When it was signed, by the sender's clock; None if it is unbound.
        received_at: When it arrived, by this device's clock.
        bound: Whether it was signed for this recipient; otherwise it could be passed on to other recipients.
        sealed: The kind of key that it was encrypted to.
    """

    sender: str
    content: bytes = field(repr=False)
    content_type: str | None
    id: str | None
    sent_at: datetime | None
    received_at: datetime
    bound: bool
    sealed: Literal["identity", "epoch"]
    _acknowledgement: "Acknowledgement" = field(repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The content as a text; None if it has a content type and is not UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None

    @property
    def is_acknowledged(self) -> bool:
        """Whether the program has acknowledged it."""
        return self._acknowledgement.is_given

    def acknowledge(self) -> None:
        """Acknowledge the message, so that it does not come again; once more has no effect.

        Raises:
            IdlibError: The receiver has ended in the meantime, and the message comes again.
        """
        self._acknowledgement.give()


def message_of(line: bytes, confirm: Callable[[int], None]) -> Message:
    """Return the message in a line of JSON.

    Args:
        line: A line that `receive --confirm` has printed.
        confirm: Confirms the message with the number in the line.

    Raises:
        ReceiverError: The line has another form.
    """
    try:
        members: dict[str, Any] = json.loads(line)
        sent_at = members["sent_at"]
        return Message(
            members["sender"],
            b64decode(members["base64"]) if members["message"] is None else members["message"].encode(),
            members.get("content_type"),
            members["id"],
            None if sent_at is None else datetime.fromisoformat(sent_at),
            datetime.fromisoformat(members["received_at"]),
            members["bound"],
            members["sealed"],
            Acknowledgement(confirm, members["number"]),
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ReceiverError(
            "the receiver has printed a line that is not a message", "install the package again; its parts do not match"
        ) from error
