"""A sealed message, and the log line about the key that it is encrypted to."""

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from idlib.output import rfc3339

if TYPE_CHECKING:
    # Imported when it is needed, because most messages are encrypted to an identity key.
    from idlib.envelope import SealedTo
    from idlib.epochs.selection import ChosenEpoch, Shortening

_LOG = logging.getLogger(__name__)

MAX_LOGGED_KEYS: Final = 4096


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message that is signed and encrypted.

    Args:
        payload: What is published.
        expiry_seconds: After how many seconds the broker may drop it; it cannot be read after that.
        epoch: The epoch key that it is encrypted to; None for the recipient's identity key.

    Raises:
        ValueError: The broker would drop it at once, or keep it for longer than its key lives.
    """

    payload: bytes = field(repr=False)
    expiry_seconds: int
    epoch: "ChosenEpoch | None" = None

    def __post_init__(self) -> None:
        if self.expiry_seconds < 1:
            raise ValueError("the broker would drop the message at once")
        if self.epoch is not None and self.expiry_seconds > self.epoch.life_seconds:
            raise ValueError("the broker would keep the message for longer than its key lives")

    @property
    def kind(self) -> "SealedTo":
        """The kind of key that it is encrypted to."""
        from idlib.envelope import SealedTo

        return SealedTo.IDENTITY if self.epoch is None else SealedTo.EPOCH

    @property
    def readable_until(self) -> str | None:
        """When the recipient destroys the key that opens it (RFC 3339); None if it does not destroy it."""
        return None if self.epoch is None else rfc3339(self.epoch.readable_until)


class KeyLog:
    """Logs until when messages to a recipient can be read, if that is limited: once for each key.

    Any number of threads may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # In the order of their last use.
        self._logged: dict[tuple[str, str, Shortening], None] = {}

    def __len__(self) -> int:
        """Return the number of keys that are remembered."""
        return len(self._logged)

    def tell(self, recipient: str, sealed: Sealed) -> None:
        """Log the epoch key that a message is encrypted to, unless it was logged before for this recipient.

        Args:
            recipient: The recipient's name.
            sealed: The message.
        """
        if sealed.epoch is None:
            return
        from idlib.epochs.selection import Shortening

        key_id, shortening = sealed.epoch.epoch.key_id, sealed.epoch.shortening
        if self._is_known((recipient, key_id, shortening)):
            return
        why = "" if shortening is Shortening.NONE else f": {shortening.value}"
        values = (recipient, key_id, sealed.readable_until, why)
        if shortening is Shortening.UNUSUAL:
            _LOG.warning("Messages to %s are encrypted to its epoch key %s and can be read only until %s%s", *values)
        else:
            _LOG.info("Messages to %s are encrypted to its epoch key %s and can be read until %s%s", *values)

    def _is_known(self, line: "tuple[str, str, Shortening]") -> bool:
        """Return whether a line was logged before, and note that it was."""
        with self._lock:
            is_known = line in self._logged
            self._logged.pop(line, None)
            self._logged[line] = None
            if len(self._logged) > MAX_LOGGED_KEYS:
                del self._logged[next(iter(self._logged))]
        return is_known
