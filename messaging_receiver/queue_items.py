"""The items of the three queues."""

from dataclasses import dataclass, field
from pathlib import Path

from idlib.discovery import Found
from idlib.envelope import SealedTo, UnverifiedMessage
from idlib.errors import DiscoveryError
from idlib.names import IdentityName
from idlib.storage import Printed, ReplayEntry
from idlib.transport import Delivery, ReceivedPacket
from messaging_receiver.receipt_requests import ReceiptRequest


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, which decides what to do once it is finished.

    Args:
        packet: The packet to acknowledge to the broker; None if the message is already acknowledged.
        waiting_number: The message's number in the store of deferred messages; None if it is not stored.
    """

    packet: ReceivedPacket | None
    waiting_number: int | None = None


@dataclass(frozen=True, slots=True)
class DecryptedMessage:
    """A decrypted message whose sender is not verified yet.

    Args:
        signed: The JWS.
        digest: The SHA-256 digest of the outer layer.
        received_at: When the message arrived, in seconds since the epoch.
        origin: Where it came from.
        unverified: The parsed JWS; None if it has to be parsed again, because the message was stored.
        verified_with: The SubjectPublicKeyInfo of a key that verifies the signature; None if no such key is known.
        sealed_to: The kind of key that it was encrypted to.
    """

    signed: str
    digest: bytes
    received_at: float
    origin: Origin
    unverified: UnverifiedMessage | None = None
    verified_with: bytes | None = None
    sealed_to: SealedTo = SealedTo.IDENTITY


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The result of a sender's look-up. It goes through the queue of decrypted messages, ahead of all messages.

    Args:
        sender: The name that was looked up.
        outcome: The records that were found, or why none were; None after an internal error.
    """

    sender: IdentityName
    outcome: Found | DiscoveryError | None


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """What the user gets of a message whose sender is authenticated.

    Args:
        sender: The name whose key verified.
        content: The content; a text in UTF-8 if it has no content type.
        content_type: Its media type; None if the message is a text.
        identifier: Its id (`jti`); None if the message is unbound.
        sent_at: When it was signed (`iat`), in seconds since the epoch; None if the message is unbound.
        received_at: When it arrived, in seconds since the epoch.
        sealed_to: The kind of key that it was encrypted to.
        file: The file that has the content; None if it is not saved.
    """

    sender: IdentityName
    content: bytes = field(repr=False)
    content_type: str | None
    identifier: str | None
    sent_at: int | None
    received_at: float
    sealed_to: SealedTo = SealedTo.IDENTITY
    file: Path | None = None

    @property
    def text(self) -> str | None:
        """The content as a text; None if it is not UTF-8."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return None


@dataclass(frozen=True, slots=True)
class AuthenticatedMessage:
    """A message to deliver.

    Args:
        message: What the user gets.
        printed: The entry for the replay memory.
        origin: Where it came from.
        receipt: The receipt that the sender asked for; None if it did not.
    """

    message: ReceivedMessage
    printed: Printed
    origin: Origin
    receipt: ReceiptRequest | None = None


@dataclass(frozen=True, slots=True)
class SettledMessage:
    """A message that is not printed, because it was refused or stored.

    Args:
        origin: Where it came from.
        copy_of: The entry for the replay memory of the message that it is a copy of; that one may not be recorded yet.
            None if it is not a copy.
    """

    origin: Origin
    copy_of: ReplayEntry | None = None


def size_of(item: Delivery | DecryptedMessage | LookupResult | AuthenticatedMessage | SettledMessage) -> int:
    """Return roughly how many bytes the text of an item uses in memory."""
    match item:
        case Delivery():
            return len(item.payload)
        case DecryptedMessage(unverified=None):
            return len(item.signed)
        case DecryptedMessage(unverified=UnverifiedMessage() as unverified):
            return len(item.signed) + len(unverified.signing_input) + len(unverified.unverified_content)
        case AuthenticatedMessage():
            return len(item.message.content)
        case _:
            return 0
