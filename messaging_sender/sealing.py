"""Seals messages: signs with our own key and encrypts to the recipient's key from DNS."""

import logging
import time
from contextlib import suppress
from typing import Final, Self

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.envelope import Binding, seal, sign
from idlib.errors import ClockError, KeyFileError, MessageError, quoted
from idlib.files import state_of
from idlib.keys import key_path, next_key_path, previous_key_paths, read_private_key
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage.outbox import NewOutgoingMessage
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS

_LOG = logging.getLogger(__name__)

# The broker may drop messages that the recipient has not fetched by then.
MESSAGE_EXPIRY_SECONDS: Final = 7 * 24 * 3600


class Sealer:
    """Signs with our own key and encrypts to the recipient's key.

    Args:
        settings: From the environment.
        key: Our own private key.
        discovery: Finds recipients' certificates, again when their time to live is over.
    """

    def __init__(self, settings: Settings, key: PrivateKey, discovery: Discovery) -> None:
        self._settings = settings
        self._path = key_path(settings.crypto_path, settings.identity_name)
        # Unknown, because the key may have been replaced since it was read.
        self._state: tuple[int, ...] | None = None
        self.key = key
        self.discovery = discovery

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return a sealer of the device that the settings describe.

        Raises:
            KeyFileError: Its key is missing or unusable.
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        """
        key = read_private_key(key_path(settings.crypto_path, settings.identity_name))
        return cls(settings, key, Discovery.from_settings(settings))

    def own_keys(self) -> tuple[PrivateKey, ...]:
        """Return our private keys to which others may encrypt, the one that signs first; unusable files are skipped."""
        place = self._settings.crypto_path, self._settings.identity_name
        # In the order in which a rotation moves keys, so that a key that moves while the files are read is not missed.
        found = {self.key.public.der: self.key}
        for path in (next_key_path(*place), self._path, *previous_key_paths(*place)):
            with suppress(KeyFileError):
                key = read_private_key(path)
                found.setdefault(key.public.der, key)
        return tuple(found.values())

    def _refresh_key(self) -> None:
        """Read our key again if its file was replaced: a program that sends for days outlives a rotation."""
        state = state_of(self._path)
        if state == self._state:
            return
        try:
            key = read_private_key(self._path)
            if key.public.der != self.key.public.der:
                _LOG.info("Reading %s", quoted(self._path))
                self.key = key
        except KeyFileError as error:
            _LOG.error("Key not reloaded, the old one stays in use: %s", error)
        self._state = state

    def describe(self, recipient: IdentityName) -> None:
        """Log the records found in DNS for a recipient, and how they were authenticated.

        Raises:
            DiscoveryError: It has no certificate that can be used.
        """
        found = self.discovery.find(recipient)
        _LOG.info("%s is authenticated: %s.", found.name, found.authentication)
        for number, usable in enumerate(found.records):
            if number == 0:
                use = "the message is encrypted to it"
            elif usable.public_key.der in found.accepted:
                use = "signatures by this key are also accepted"
            else:
                use = "not used, because other keys take precedence"
            kind, bits = usable.public_key.algorithms.key_kind, usable.public_key.native.key_size
            _LOG.info("Record %s, %s of %d bits: %s.", usable.parameters, kind, bits, use)
        for reason in found.skipped:
            _LOG.info("Not usable: %s.", reason)

    def seal(self, message: NewOutgoingMessage, *, ask_for_receipt: bool = False) -> bytes:
        """Return the payload to publish, as of now.

        Args:
            message: The text, the recipient and the identifier.
            ask_for_receipt: Ask the recipient to confirm that it has printed the message.

        Raises:
            ClockError: The clock is not set: the recipient would refuse the message as too old.
            DiscoveryError: The recipient has no certificate that can be used.
            MessageError: The message is empty, has expired, or is too large once it is signed and encrypted.
        """
        if time.time() < EARLIEST_CREDIBLE_TIME:
            raise ClockError("the clock of this device is not set", "wait for its time server, or set it")
        self._refresh_key()
        recipient = IdentityName(message.recipient)
        payload = seal(
            message.text,
            sender=self._settings.identity_name,
            signing_key=self.key,
            recipient=recipient,
            encryption_key=self.discovery.find(recipient).records[0].public_key,
            binding=_binding(message),
            ask_for_receipt=ask_for_receipt,
        )
        self._check_size(len(payload))
        return payload

    def check(self, message: NewOutgoingMessage) -> None:
        """Check a message before it is queued, as far as possible without the recipient's key.

        Args:
            message: The message.

        Raises:
            MessageError: It is empty, or too large for any recipient's key.
        """
        signed = sign(
            message.text, sender=self._settings.identity_name, signing_key=self.key, binding=_binding(message)
        )
        # Encryption encodes in base64: four bytes for every three.
        self._check_size((len(signed) * 4 + 2) // 3)

    def _check_size(self, octets: int) -> None:
        if octets > self._settings.max_message_size:
            raise too_large(f"{octets} bytes when signed and encrypted", self._settings.max_message_size)


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


def _binding(message: NewOutgoingMessage) -> Binding:
    now = int(time.time())
    expires_at = None if message.lifetime is None else message.queued_at + message.lifetime
    if expires_at is not None and expires_at <= now:
        raise MessageError("the message expired before it could be sent", "give more seconds with --expires")
    return Binding(IdentityName(message.recipient), now, message.identifier, expires_at)
