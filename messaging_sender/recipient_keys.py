"""Which key of its recipient a message is encrypted to (docs/protocol.md, "Which key a sender uses")."""

import logging
import time
from typing import TYPE_CHECKING

from idlib.algorithms import PublicKey
from idlib.discovery import Discovery
from idlib.errors import EpochKeyUnavailableError, NotForwardSecretError
from idlib.marks import Mark
from idlib.names import IdentityName
from idlib.output import rfc3339
from idlib.settings import Settings
from idlib.storage.outgoing import NewOutgoingMessage
from messaging_sender.bounds import seconds_at_the_broker

if TYPE_CHECKING:
    # Imported when a recipient is marked, because most are not.
    from idlib.epochs.encryption_keys import EncryptionKeys, IdentityKey
    from idlib.epochs.selection import ChosenEpoch
    from messaging_sender.mark_memory import MarkMemory

_LOG = logging.getLogger(__name__)


class RecipientKeys:
    """Finds the keys that messages are encrypted to; any number of threads may share it.

    Args:
        settings: It uses REQUIRE_FORWARD_SECRECY.
        discovery: Asks DNS.
        memory: Which names were marked before; None if that is not remembered.
    """

    def __init__(self, settings: Settings, discovery: Discovery, memory: "MarkMemory | None" = None) -> None:
        self._settings = settings
        self._discovery = discovery
        self._memory = memory
        self._of_marked: EncryptionKeys | None = None

    def find(self, message: NewOutgoingMessage) -> "PublicKey | ChosenEpoch":
        """Return the key that a message is encrypted to.

        Args:
            message: The message.

        Raises:
            EpochKeyUnavailableError: The recipient has epoch keys, and none that may be used now; or it has only an
                identity key, but the message was encrypted to an epoch key before, or its name was marked less than 14
                days ago.
            NotForwardSecretError: The recipient has only an identity key, and REQUIRE_FORWARD_SECRECY names it.
            DiscoveryError: It has no certificate that can be used, or DNS cannot be asked.
            StoreError: The names that were marked before cannot be looked up.
        """
        recipient, now = IdentityName(message.recipient), int(time.time())
        found = self._discovery.find(recipient)
        if found.mark is Mark.UNMARKED:
            self._accept_unmarked(message, recipient, now)
            return found.records[0].public_key
        from idlib.epochs.encryption_keys import IdentityKey

        if self._memory is not None:
            # Before the epoch records are looked up, because the message may wait for them.
            self._memory.note(recipient, now)
        key = self._find_of_marked(recipient, now, seconds_at_the_broker(message))
        if isinstance(key, IdentityKey):
            # Only the second look-up found the name unmarked.
            self._accept_unmarked(message, recipient, now)
            return key.public_key
        return key

    def _find_of_marked(self, recipient: IdentityName, now: int, life_seconds: int) -> "IdentityKey | ChosenEpoch":
        from idlib.epochs.encryption_keys import EncryptionKeys

        if self._of_marked is None:
            self._of_marked = EncryptionKeys(self._discovery)
        return self._of_marked.find(recipient, now, life_seconds)

    def _accept_unmarked(self, message: NewOutgoingMessage, recipient: IdentityName, now: int) -> None:
        """Raise an error unless a message may be encrypted to the identity key of its recipient."""
        if message.was_sealed_to_epoch:
            raise EpochKeyUnavailableError(
                f"the message was encrypted to an epoch key before, and {recipient} has no epoch keys any more",
                "an outdated answer may have been replayed; the message waits until it expires; send the text again if"
                " it may be encrypted to the identity key",
            )
        marked_at = None if self._memory is None else self._memory.recently_marked_at(recipient, now)
        if marked_at is not None:
            raise EpochKeyUnavailableError(
                f"{recipient} is not marked as having epoch keys any more, and was at {rfc3339(marked_at)}",
                "an outdated answer may have been replayed; messages wait for 14 days until this is accepted",
            )
        required = self._settings.require_forward_secrecy
        if required is not None and required.match(recipient):
            raise NotForwardSecretError(
                f"{recipient} has no epoch keys, and REQUIRE_FORWARD_SECRECY names it",
                "the name's owner must set EPOCH_KEYS=on and publish a marked certificate; or take the name out of"
                " REQUIRE_FORWARD_SECRECY",
            )
        if self._memory is not None and self._memory.forget(recipient):
            _LOG.warning(
                "%s is no longer marked as having epoch keys: messages to it are encrypted to its identity key again",
                recipient,
            )
