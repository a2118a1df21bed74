"""What stands in the three queues, and how the receiver counts it."""

import threading
from collections import Counter
from dataclasses import dataclass

from receipts import ReceiptRequest

from idlib.discovery import Found
from idlib.errors import DiscoveryError, Reason
from idlib.names import IdentityName
from idlib.store import ReplayEntry
from idlib.transport import Delivery


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, and so what has to be done when it is finished.

    Args:
        delivery: The arrival to be acknowledged; None where that is done.
        waiting_number: Its number in the store where it waited; None where it did not.
    """

    delivery: Delivery | None
    waiting_number: int | None = None


@dataclass(frozen=True, slots=True)
class DecryptedMessage:
    """A message whose outer layer is open and whose sender is only claimed.

    Args:
        signed: The JWS.
        digest: What tells it from others where it is unbound.
        received_at: In seconds since the epoch.
        origin: Where it came from.
        was_asked_again: Whether its sender has been looked up once more because no key verified.
    """

    signed: str
    digest: bytes
    received_at: float
    origin: Origin
    was_asked_again: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A mark behind the messages of a queue: DNS has been asked about a sender.

    Args:
        sender: Whose messages can go on.
        outcome: What was found, or why nothing was; None where the look-up met an error of this program.
    """

    sender: IdentityName
    outcome: Found | DiscoveryError | None


@dataclass(frozen=True, slots=True)
class AuthenticatedMessage:
    """A message to be printed.

    Args:
        line: What to print, without the line's end.
        entry: What it is recognized by when it comes again.
        origin: Where it came from.
        receipt: What its sender wants to have confirmed; None where nothing.
    """

    line: str
    entry: ReplayEntry
    origin: Origin
    receipt: ReceiptRequest | None = None


@dataclass(frozen=True, slots=True)
class SettledMessage:
    """A message of which nothing is printed: refused, or stored to wait.

    Args:
        origin: Where it came from.
    """

    origin: Origin


def octets_of(item: Delivery | DecryptedMessage | Answer | AuthenticatedMessage | SettledMessage) -> int:
    """Return about how much memory the text of something in a queue takes."""
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
    """How many messages were received, printed and refused, and why."""

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
