"""Seals messages: signs with our own key and encrypts to the recipient's key from DNS."""

import logging
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope.binding import Binding
from idlib.envelope.jws import sign
from idlib.errors import ClockError, KeyFileError, quoted
from idlib.files import state_of
from idlib.keys import key_path, next_key_path, previous_key_paths, read_private_key
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage, in_base64
from idlib.system.times import EARLIEST_CREDIBLE_TIME
from messaging_sender.bounds import end_of_life, seconds_at_the_broker, too_large

if TYPE_CHECKING:
    # Imported late, here and below, because a message is queued without them.
    from idlib.discovery import Discovery
    from messaging_sender.mark_memory import MarkMemory
    from messaging_sender.recipient_keys import RecipientKeys
    from messaging_sender.sealed import Sealed

_LOG = logging.getLogger(__name__)


class Sealer:
    """Signs with our own key and encrypts to the recipient's key.

    Args:
        settings: From the environment.
        key: Our own private key.
        discovery: Finds recipients' certificates, again when their time to live is over; None for that of the settings.
        memory: Which recipients were marked before; None if that is not remembered.
    """

    def __init__(
        self,
        settings: Settings,
        key: PrivateKey,
        discovery: "Discovery | None" = None,
        memory: "MarkMemory | None" = None,
    ) -> None:
        self._settings = settings
        self._discovery = discovery
        self._memory = memory
        self._recipient_keys: RecipientKeys | None = None
        self._path = key_path(settings.crypto_path, settings.identity_name)
        # Unknown, because the key may have been replaced since it was read.
        self._state: tuple[int, ...] | None = None
        self.key = key

    @classmethod
    def from_settings(cls, settings: Settings, memory: "MarkMemory | None" = None) -> Self:
        """Return a sealer of the device that the settings describe.

        Args:
            settings: From the environment.
            memory: Which recipients were marked before; None if that is not remembered.

        Raises:
            KeyFileError: Its key is missing or unusable.
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        """
        sealer = cls(settings, read_private_key(key_path(settings.crypto_path, settings.identity_name)), memory=memory)
        if settings.dnssec_trust_anchors is not None or settings.pkix_ca_file is not None:
            # These files may be unusable, which must show even if the message is only queued.
            _ = sealer.discovery
        return sealer

    @property
    def discovery(self) -> "Discovery":
        """Finds recipients' certificates.

        Raises:
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        """
        if self._discovery is None:
            # Imported late, because it takes a third of a program's start and a message is queued without it.
            from idlib.discovery import Discovery

            self._discovery = Discovery.from_settings(self._settings)
        return self._discovery

    @property
    def recipient_keys(self) -> "RecipientKeys":
        """Chooses the keys that messages are encrypted to.

        Raises:
            ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
        """
        if self._recipient_keys is None:
            from messaging_sender.recipient_keys import RecipientKeys

            self._recipient_keys = RecipientKeys(self._settings, self.discovery, self._memory)
        return self._recipient_keys

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
        from idlib.marks import Mark

        found = self.discovery.find(recipient)
        _LOG.info("%s is authenticated: %s.", found.name, found.authentication)
        is_marked = found.mark is not Mark.UNMARKED
        if is_marked:
            _LOG.info("%s is marked as having epoch keys: the message is encrypted to one of them.", found.name)
        for number, usable in enumerate(found.records):
            if number == 0 and not is_marked:
                use = "the message is encrypted to it"
            elif usable.public_key.der in found.accepted:
                use = f"signatures by this key are {'' if is_marked else 'also '}accepted"
            else:
                use = "not used, because other keys take precedence"
            kind, bits = usable.public_key.algorithms.key_kind, usable.public_key.native.key_size
            _LOG.info("Record %s, %s of %d bits: %s.", usable.parameters, kind, bits, use)
        for reason in found.skipped:
            _LOG.info("Not usable: %s.", reason)

    def seal(self, message: NewOutgoingMessage, *, ask_for_receipt: bool = False) -> "Sealed":
        """Return the payload to publish, as of now, and which key it is encrypted to.

        Args:
            message: The content, the recipient and the identifier.
            ask_for_receipt: Ask the recipient to confirm that it has printed the message.

        Raises:
            ClockError: The clock is not set: the recipient would refuse the message as too old.
            DiscoveryError: The recipient has no certificate that can be used, or no epoch key although it is marked.
            NotForwardSecretError: The recipient is not marked, and the message needs an epoch key.
            MessageError: The message is empty, has expired, or is too large once it is signed and encrypted.
            StoreError: The names that were marked before cannot be looked up.
        """
        if time.time() < EARLIEST_CREDIBLE_TIME:
            raise ClockError("the clock of this device is not set", "wait for its time server, or set it")
        # Imported late, because a message that is only queued is not encrypted.
        from idlib.envelope import seal
        from messaging_sender.sealed import Sealed

        self._refresh_key()
        found = self.recipient_keys.find(message)
        sealed_with = partial(
            seal,
            message.content,
            sender=self._settings.identity_name,
            signing_key=self.key,
            recipient=IdentityName(message.recipient),
            binding=_binding(message),
            ask_for_receipt=ask_for_receipt,
            content_type=message.content_type,
        )
        seconds = seconds_at_the_broker(message)
        if isinstance(found, PublicKey):
            sealed = Sealed(sealed_with(encryption_key=found), seconds)
        else:
            sealed = Sealed(sealed_with(encryption_key=found.key), min(seconds, found.life_seconds), found)
        self._check_size(len(sealed.payload))
        return sealed

    def check(self, message: NewOutgoingMessage) -> None:
        """Check a message before it is queued, as far as possible without the recipient's key.

        Args:
            message: The message.

        Raises:
            MessageError: It is empty, or too large for any recipient's key.
        """
        signed = sign(
            message.content,
            sender=self._settings.identity_name,
            signing_key=self.key,
            binding=_binding(message),
            content_type=message.content_type,
        )
        self._check_size(in_base64(len(signed)))

    def _check_size(self, octets: int) -> None:
        if octets > self._settings.max_message_size:
            raise too_large(f"{octets} bytes when signed and encrypted", self._settings.max_message_size)


def _binding(message: NewOutgoingMessage) -> Binding:
    now = int(time.time())
    return Binding(IdentityName(message.recipient), now, message.identifier, end_of_life(message, now))
