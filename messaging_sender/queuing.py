"""Queues messages in the outbox, and decides when to."""

import logging
import time

from idlib.commands import command
from idlib.errors import (
    BogusError,
    ClockError,
    IdlibError,
    RefusedMessageError,
    TemporaryDiscoveryError,
    TransportError,
)
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage.outboxes import is_to_be_opened, is_watched, open_outbox
from idlib.storage.outgoing import NewOutgoingMessage, surely_fits
from idlib.storage.queued import BootTime
from idlib.system.times import EARLIEST_CREDIBLE_TIME
from messaging_sender.bounds import end_of_life, expires_at

_LOG = logging.getLogger(__name__)


def resident_sender() -> str:
    """Return the command of the program that sends queued messages."""
    return command("deliver")


def is_temporary(error: IdlibError) -> bool:
    """Return whether an error may go away by itself, because neither the message nor its recipient is the cause.

    Args:
        error: Raised when sending.
    """
    if isinstance(error, RefusedMessageError):
        return False
    return isinstance(error, TransportError | TemporaryDiscoveryError | BogusError | ClockError)


def has_waiting(settings: Settings, recipient: IdentityName) -> bool:
    """Return whether unexpired messages to a recipient are queued, which a new one must not overtake.

    Args:
        settings: STORE, STORE_PASSWORD_FILE and DATA_PATH are used.
        recipient: The name.

    Raises:
        StoreError: The outbox cannot be read.
    """
    if not is_to_be_opened(settings):
        return False
    with open_outbox(settings) as outbox:
        waiting = outbox.next_to(str(recipient), 0)
        while waiting is not None and _has_expired(waiting):
            waiting = outbox.next_to(str(recipient), waiting.number)
    return waiting is not None


def queue_message(settings: Settings, message: NewOutgoingMessage) -> None:
    """Queue a message in the outbox.

    Args:
        settings: From the environment.
        message: The message.

    Raises:
        MessageError: The message can never be sent.
        KeyFileError: Our own key, which is needed to check a large message, is missing or unusable.
        StoreError: The outbox is full, or cannot be written.
    """
    _check(settings, message)
    with open_outbox(settings) as outbox:
        outbox.put(message, BootTime.now())


def queue_and_tell(settings: Settings, message: NewOutgoingMessage, why: str) -> None:
    """Queue a message in the outbox, and log the reason.

    Args:
        settings: From the environment.
        message: The message.
        why: Why it is not sent now.

    Raises:
        MessageError: The message can never be sent.
        KeyFileError: Our own key, which is needed to check a large message, is missing or unusable.
        StoreError: The outbox is full, or cannot be written.
    """
    queue_message(settings, message)
    _LOG.warning("The message to %s is queued; %s will send it: %s", message.recipient, resident_sender(), why)
    warn_if_nobody_sends(settings)


def warn_if_nobody_sends(settings: Settings) -> None:
    """Log a warning if the resident sender is not running.

    Args:
        settings: STORE, STORE_PASSWORD_FILE and DATA_PATH are used.
    """
    if not is_watched(settings):
        _LOG.warning("%s is not running: start it with the same settings", resident_sender())


def _has_expired(message: NewOutgoingMessage) -> bool:
    # If the clock was not set when a message was queued, its lifetime starts when the resident sender first sees it.
    return message.queued_at >= EARLIEST_CREDIBLE_TIME and time.time() >= expires_at(message)


def _check(settings: Settings, message: NewOutgoingMessage) -> None:
    end_of_life(message, int(time.time()))
    if not surely_fits(message.content, settings.max_message_size):
        # Imported late, because cryptography takes a quarter of the time in which a program queues a message.
        from messaging_sender.sealing import Sealer

        Sealer.from_settings(settings).check(message)
