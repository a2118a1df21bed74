"""Keeps messages that cannot be delivered as files, so that they do not block the others."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from idlib.errors import StoreError, quoted
from idlib.names import IdentityName
from messaging_receiver.message_files import MessageDirectory
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.lines import json_line_of

_LOG = logging.getLogger(__name__)

MAX_SET_ASIDE: Final = 100
# Of strangers, so that they cannot take the places of trusted names.
MAX_SET_ASIDE_OF_STRANGERS: Final = 50
_SUFFIX: Final = ".json"
_SUFFIX_OF_STRANGERS: Final = f"-stranger{_SUFFIX}"


class SetAside:
    """A directory of messages that could not be delivered, one file for each.

    Args:
        directory: Where the files go.
        retry: Runs an operation until the disk works; raises StoreError if the receiver stops before.
        is_trusted: Returns whether a name is trusted; raises StoreError if that cannot be read.
    """

    def __init__(
        self,
        directory: MessageDirectory,
        retry: Callable[[Callable[[], Path | None]], Path | None],
        is_trusted: Callable[[IdentityName], bool],
    ) -> None:
        self._directory = directory
        self._retry = retry
        self._is_trusted = is_trusted

    def keep(self, message: ReceivedMessage) -> Fate:
        """Write a message to a file, unless too many are kept, and return its fate.

        Args:
            message: The message.
        """

        def keep() -> Path | None:
            is_stranger = not self._is_trusted(message.sender)
            if len(self._directory) >= MAX_SET_ASIDE:
                return None
            if is_stranger and self._directory.count(_SUFFIX_OF_STRANGERS) >= MAX_SET_ASIDE_OF_STRANGERS:
                return None
            suffix = _SUFFIX_OF_STRANGERS if is_stranger else _SUFFIX
            return self._directory.save(message, f"{json_line_of(message)}\n".encode(), suffix)

        try:
            file = self._retry(keep)
        except StoreError:
            return Fate.KEPT
        where = "its content is not kept, because too many are" if file is None else f"it is in {quoted(file)}"
        _LOG.error("Set aside the message %s: %s", named(message), where)
        return Fate.SET_ASIDE


def named(message: ReceivedMessage) -> str:
    """Return words for a message in a log line.

    Args:
        message: The message.
    """
    return f"{'without an id' if message.identifier is None else message.identifier} from {message.sender}"
