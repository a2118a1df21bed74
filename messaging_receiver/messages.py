"""What the three queues hold, and how the receiver counts it."""

import threading
from collections import Counter
from dataclasses import dataclass

from idlib.discovery import Found
from idlib.errors import DiscoveryError, Reason
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
class Answer:
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


def size_of(item: Delivery | DecryptedMessage | Answer | AuthenticatedMessage | SettledMessage) -> int:
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


class Counters:
    """How many messages were received, printed and refused, and why; each is counted once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._printed = 0
        self._refused: Counter[Reason] = Counter()

    def count_received(self) -> None:
        """Count a message that arrived."""
        with self._lock:
            self._received += 1

    def count_printed(self, number: int) -> None:
        """Count messages that were printed."""
        with self._lock:
            self._printed += number

    def count_refused(self, reason: Reason) -> None:
        """Count a message that was refused."""
        with self._lock:
            self._refused[reason] += 1

    def __str__(self) -> str:
        with self._lock:
            reasons = "".join(f" refused_{reason}={number}" for reason, number in sorted(self._refused.items()))
            total = sum(self._refused.values())
            return f"received={self._received} printed={self._printed} refused={total}{reasons}"
