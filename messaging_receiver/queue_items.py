"""The items of the three queues."""

from dataclasses import dataclass

from idlib.discovery import Found
from idlib.errors import DiscoveryError
from idlib.names import IdentityName
from idlib.storage import Printed
from idlib.transport import Delivery
from messaging_receiver.receipts import ReceiptRequest


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, and so what has to be done when it is finished.

    Args:
        delivery: The arrival to be acknowledged; None if that is done.
        waiting_number: Its number among the stored messages; None if it is not stored.
    """

    delivery: Delivery | None
    waiting_number: int | None = None


@dataclass(frozen=True, slots=True)
class DecryptedMessage:
    """A message whose outer layer is open and whose sender is only claimed.

    Args:
        signed: The JWS.
        digest: SHA-256 over the outer layer.
        received_at: In seconds since the epoch.
        origin: Where it came from.
    """

    signed: str
    digest: bytes
    received_at: float
    origin: Origin


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What DNS says of a sender: it goes through the queue of decrypted messages, before all of them.

    Args:
        sender: Who was looked up.
        outcome: What was found, or why nothing was; None if the look-up met an internal error.
    """

    sender: IdentityName
    outcome: Found | DiscoveryError | None


@dataclass(frozen=True, slots=True)
class AuthenticatedMessage:
    """A message to be printed.

    Args:
        line: What to print, without the end of the line.
        printed: What is remembered of it.
        origin: Where it came from.
        receipt: What its sender wants to have confirmed; None if nothing.
    """

    line: str
    printed: Printed
    origin: Origin
    receipt: ReceiptRequest | None = None


@dataclass(frozen=True, slots=True)
class SettledMessage:
    """A message of which nothing is printed: refused, or stored to wait.

    Args:
        origin: Where it came from.
    """

    origin: Origin


def size_of(item: Delivery | DecryptedMessage | LookupResult | AuthenticatedMessage | SettledMessage) -> int:
    """Return about how many bytes of memory the text of an item takes."""
    match item:
        case Delivery():
            return len(item.payload)
        case DecryptedMessage():
            return len(item.signed)
        case AuthenticatedMessage():
            return len(item.line)
        case _:
            return 0
