"""When a message goes into the outbox instead of to the broker."""

import logging
import time

from idlib.errors import (
    BogusError,
    ClockError,
    IdlibError,
    RefusedMessageError,
    TemporaryDiscoveryError,
    TransportError,
)
from idlib.names import IdentityName
from idlib.program.command_line import beside
from idlib.settings import Settings
from idlib.storage.outbox import BootTime, NewOutgoingMessage, Outbox, is_to_be_opened
from idlib.storage.watching import is_watched
from idlib.trust import EARLIEST_CREDIBLE_TIME
from messaging_sender.sealing import Sealer, expires_at

_LOG = logging.getLogger(__name__)


def resident_sender() -> str:
    """Return how the program is called that sends what waits in the outbox."""
    return beside("application.py", "deliver")


def is_temporary(error: IdlibError) -> bool:
    """Return whether an error says nothing against the message or its recipient, so that it may go away by itself.

    Args:
        error: That sending met.
    """
    if isinstance(error, RefusedMessageError):
        return False
    return isinstance(error, TransportError | TemporaryDiscoveryError | BogusError | ClockError)


def has_waiting(settings: Settings, recipient: IdentityName) -> bool:
    """Return whether messages to a recipient wait already that have not expired: a new one must not overtake them.

    Args:
        settings: Of them DATA_PATH.
        recipient: Whose they are.

    Raises:
        StoreError: The outbox cannot be read.
    """
    if not is_to_be_opened(settings.data_path):
        return False
    with Outbox(settings.data_path) as outbox:
        waiting = outbox.next_to(str(recipient), 0)
        while waiting is not None and _has_expired(waiting):
            waiting = outbox.next_to(str(recipient), waiting.number)
    return waiting is not None


def queue_message(settings: Settings, sealer: Sealer, message: NewOutgoingMessage) -> None:
    """Let a message wait in the outbox.

    Args:
        settings: Of them DATA_PATH.
        sealer: Says whether it can be sent at all.
        message: Which.

    Raises:
        MessageError: It cannot be sent, later either.
        StoreError: The outbox is full, or cannot be written.
    """
    sealer.check(message)
    with Outbox(settings.data_path) as outbox:
        outbox.put(message, BootTime.now())


def warn_if_nobody_sends(settings: Settings) -> None:
    """Say so if no program is running that sends what waits.

    Args:
        settings: Of them DATA_PATH.
    """
    if not is_watched(settings.data_path):
        _LOG.warning("%s is not running: start it with the same settings", resident_sender())


def _has_expired(message: NewOutgoingMessage) -> bool:
    # What a clock that was not set has dated, the resident sender counts as queued when it sees it.
    return message.queued_at >= EARLIEST_CREDIBLE_TIME and time.time() >= expires_at(message)
