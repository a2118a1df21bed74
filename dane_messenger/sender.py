"""Sends messages from a Python program."""

import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, Self

from dane_messenger.configuration import SettingValue, environment_with
from dane_messenger.library_log import be_quiet_by_default
from idlib.envelope.identifier import new_identifier
from idlib.errors import MessageError
from idlib.media_types import media_type
from idlib.names import IdentityName
from idlib.settings import SENDER_READS, load
from idlib.storage.outgoing import NewOutgoingMessage
from messaging_sender.queuing import queue_message, warn_if_nobody_sends
from messaging_sender.reporting import Outcome
from messaging_sender.sending_session import SendingSession

_BYTES_TYPE: Final = "application/octet-stream"
_MAX_LIFETIME_SECONDS: Final = 99_999_999
_MAX_TIMEOUT_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that the broker has acknowledged.

    Attributes:
        id: Its id, which the recipient sees as `Message.id`.
        recipient: The recipient's name.
        sent_at: When the broker had acknowledged it, by this device's clock.
        sealed: The kind of key that it is encrypted to.
        readable_until: When the recipient destroys the key that opens it; None if it does not destroy it.
        is_confirmed: Whether the recipient has confirmed that it has printed it; only asked with `receipt=True`.
        warning: Why the recipient will refuse it, as far as that can be known here; None if there is no known reason.
    """

    id: str
    recipient: str
    sent_at: datetime
    sealed: Literal["identity", "epoch"]
    readable_until: datetime | None = None
    is_confirmed: bool = False
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the outbox, which `dane-messenger deliver` sends.

    Attributes:
        id: Its id, which the recipient sees as `Message.id`.
        recipient: The recipient's name.
        queued_at: When it was queued, by this device's clock.
    """

    id: str
    recipient: str
    queued_at: datetime


class Sender:
    """Sends messages as the device that the settings name, over one connection to the broker.

    It connects with the first message, and reconnects whenever the connection breaks. Any number of threads may use it.
    Use it as a context manager, or call `close`.

    Args:
        settings: Settings that differ from those in the environment, under the names of the environment variables
            (docs/settings.md), such as `{"IDENTITY_NAME": "alice._device.example.com"}`.
        timeout: How long the broker may take to accept the connection, and to acknowledge a message, in seconds.

    Raises:
        ConfigurationError: Settings are missing, unknown or have bad values; the error lists all of them.
        KeyFileError: The device's key is missing or unusable.
        ValueError: The time-out is not more than 0 and at most 86400 s.
    """

    def __init__(self, settings: Mapping[str, SettingValue] | None = None, *, timeout: float = 30.0) -> None:
        be_quiet_by_default()
        self._timeout = _checked_timeout(timeout)
        self._settings = load(environment_with(settings), SENDER_READS)
        self._session = SendingSession(self._settings, self._timeout)
        # A program that does not close it would leave a session at the broker.
        self._close = weakref.finalize(self, self._session.close)
        self._has_warned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity_name(self) -> str:
        """The name of the device that sends."""
        return str(self._settings.identity_name)

    def send(
        self,
        recipient: str,
        content: str | bytes,
        *,
        content_type: str | None = None,
        expires: int | None = None,
        receipt: bool = False,
        timeout: float | None = None,
    ) -> SentMessage:
        """Send a message, and return once the broker has acknowledged it.

        After any error except `ReceiptError` it was not delivered, or, as the error then says, may have been.

        Args:
            recipient: The recipient's name.
            content: A text, or any bytes.
            content_type: The media type of the content, such as `application/json`; None for a text without one, and
                for bytes of the type `application/octet-stream`.
            expires: After how many seconds the message expires; None for never.
            receipt: Also wait until the recipient has confirmed that it has printed the message; this takes a
                connection of its own.
            timeout: How long the broker may take to acknowledge it, and then the recipient to confirm it, in seconds;
                None for the time that the `Sender` was created with.

        Raises:
            MalformedNameError: The recipient's name is malformed.
            DiscoveryError: DNS has no key of the recipient that can be used, or did not answer.
            NotForwardSecretError: The recipient has no epoch keys, and REQUIRE_FORWARD_SECRECY names it.
            MessageError: The content is empty or too large, or is a text that is not valid Unicode.
            MalformedMediaTypeError: The content type is not a media type.
            ClockError: The clock of this device is not set.
            TransportError: The broker was not reached, or refused the message, or did not acknowledge it.
            NoSubscriberError: The broker has no subscriber for the recipient, and dropped the message.
            ReceiptError: The recipient did not confirm in time.
            KeyFileError: The receipt could not be opened, because this program cannot read the device's epoch keys.
            StoreError: The outbox, which also keeps the names that had epoch keys, cannot be read.
            ValueError: The content is neither a str nor bytes, or `expires` or `timeout` is out of range.
            RuntimeError: The `Sender` is closed.
        """
        patience = self._timeout if timeout is None else _checked_timeout(timeout)
        message = _outgoing(recipient, content, content_type, expires)
        send = self._session.send_and_confirm if receipt else self._session.send
        return _sent(message, send(message, patience), is_confirmed=receipt)

    def queue(
        self, recipient: str, content: str | bytes, *, content_type: str | None = None, expires: int | None = None
    ) -> QueuedMessage:
        """Put a message into the outbox in DATA_PATH or STORE, from which `dane-messenger deliver` sends it.

        It needs no network, or with STORE only the database, and returns at once. A queued message survives a restart
        of the device.

        Args:
            recipient: The recipient's name.
            content: A text, or any bytes.
            content_type: The media type of the content, such as `application/json`; None for a text without one, and
                for bytes of the type `application/octet-stream`.
            expires: After how many seconds the message expires; None for a week.

        Raises:
            MalformedNameError: The recipient's name is malformed.
            MessageError: The content is empty or too large, or is a text that is not valid Unicode.
            MalformedMediaTypeError: The content type is not a media type.
            StoreError: The outbox is full, or cannot be written.
            ValueError: The content is neither a str nor bytes, or `expires` is out of range.
        """
        message = _outgoing(recipient, content, content_type, expires)
        queue_message(self._settings, message)
        if not self._has_warned:
            self._has_warned = True
            warn_if_nobody_sends(self._settings)
        return QueuedMessage(message.identifier, message.recipient, _time(message.queued_at))

    def close(self) -> None:
        """Close the connection; do this after all threads have sent their messages."""
        self._close()


def _outgoing(
    recipient: str, content: str | bytes, content_type: str | None, expires: int | None
) -> NewOutgoingMessage:
    if expires is not None and not (isinstance(expires, int) and 1 <= expires <= _MAX_LIFETIME_SECONDS):
        raise ValueError(f"expires={expires!r}: give a whole number of seconds from 1 to {_MAX_LIFETIME_SECONDS}")
    # Programs without a type checker can pass anything.
    if not isinstance(content, str | bytes):
        raise ValueError(f"the content is of the type {type(content).__name__}: give a str or bytes")  # noqa: TRY004
    is_text = isinstance(content, str) and content_type is None
    octets = _encoded(content) if isinstance(content, str) else content
    return NewOutgoingMessage(
        str(IdentityName(recipient)),
        new_identifier(),
        content if is_text else octets,
        int(time.time()),
        expires,
        content_type=None if is_text else media_type(_BYTES_TYPE if content_type is None else content_type),
    )


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"the text is not valid Unicode: character {error.start + 1} is half of a pair", "remove it"
        ) from error


def _sent(message: NewOutgoingMessage, outcome: Outcome, *, is_confirmed: bool) -> SentMessage:
    epoch = None if outcome.sealed is None else outcome.sealed.epoch
    return SentMessage(
        message.identifier,
        message.recipient,
        _time(time.time()),
        "identity" if epoch is None else "epoch",
        None if epoch is None else _time(epoch.readable_until),
        is_confirmed,
        outcome.warning,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _checked_timeout(seconds: float) -> float:
    if not 0 < seconds <= _MAX_TIMEOUT_SECONDS:
        raise ValueError(f"timeout={seconds!r}: give more than 0 and at most {_MAX_TIMEOUT_SECONDS:g} seconds")
    return seconds
