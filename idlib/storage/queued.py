"""What an outbox returns, and what an engine of it implements; without an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from idlib.storage.outgoing import NewOutgoingMessage
from idlib.system import clock

MAX_OCTETS: Final = 16 * 1024 * 1024
# What a message needs in addition to its text: names, numbers, index entries.
OVERHEAD_OCTETS: Final = 200
# A message may be queued a while after it was created.
MAX_DIVERGENCE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class OutgoingMessage(NewOutgoingMessage):
    """A queued message.

    Args:
        recipient: The recipient's name.
        identifier: The `jti` of the message, the same each time it is sealed.
        content: The text of the message, or the bytes of content that has a type.
        queued_at: When it was queued, in seconds since the epoch.
        lifetime: How many seconds later it expires; None if it does not expire.
        number: Its number in the outbox.
        was_sealed_to_epoch: As in `NewOutgoingMessage`.
        content_type: As in `NewOutgoingMessage`.
    """

    number: int


@dataclass(frozen=True, slots=True)
class BootTime:
    """A time by the boot clock, which cannot be set.

    Args:
        boot: The unique identifier of this boot of the system.
        up: Seconds since the boot.
    """

    boot: str
    up: float

    @classmethod
    def now(cls) -> Self:
        """Return the present time."""
        return cls(clock.boot(), clock.boot_time())


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many messages are queued, and since when.

    Args:
        number: How many messages are queued.
        since: When the oldest was queued, in seconds since the epoch; None if no message is queued.
    """

    number: int
    since: int | None


class MarkStore(Protocol):
    """Stores which names are marked as having epoch keys. Every method may raise `StoreError`."""

    def note_mark(self, name: str, now: int) -> None:
        """Store that a name is marked as having epoch keys; it is durable when this returns.

        Args:
            name: The name.
            now: Seconds since the epoch; a time before this software was built counts as that time.
        """

    def forget_mark(self, name: str) -> None:
        """Forget that a name was marked; that is durable when this returns.

        Args:
            name: The name.
        """

    def marked_at(self, name: str) -> int | None:
        """Return when a name was last seen marked, in seconds since the epoch; None if that is not known.

        Args:
            name: The name.
        """


class OutboxStore(MarkStore, Protocol):
    """The outbox of a program that queues messages. Any number of threads and processes may use it.

    Every method may raise `StoreError`; in that case nothing has changed.
    """

    def __enter__(self) -> Self:
        """Return the outbox."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the outbox."""

    def close(self) -> None:
        """Close the outbox; it cannot be used afterwards."""

    def put(self, message: NewOutgoingMessage, at: BootTime | None = None) -> None:
        """Queue a message unless one with its identifier is queued; it is durable when this returns.

        Args:
            message: The message; its content is not empty.
            at: When it was queued, by the boot clock; None if that is not known.

        Raises:
            StoreError: The outbox or the disk is full; nothing of the message is stored.
        """

    def next_to(self, recipient: str, after: int) -> OutgoingMessage | None:
        """Return the next message to a recipient, or None if there is none.

        Args:
            recipient: The recipient's name.
            after: The number of the message before it; 0 for the first message.
        """

    def waiting(self) -> Waiting:
        """Return how many messages are queued, and since when."""

    def size(self) -> int:
        """Return how many bytes the messages take, as counted for the limit."""


class DeliveryStore(OutboxStore, Protocol):
    """The outbox of a program that sends what is in it."""

    @property
    def acknowledged(self) -> set[int]:
        """The numbers of messages that the broker has acknowledged and that could not be removed yet."""

    def hold_for_delivery(self) -> None:
        """Become a process that sends from this outbox, until it is closed; others may still add messages.

        Raises:
            StoreError: Another process does, and only one may; the outbox has been closed.
        """

    def recipients(self) -> tuple[str, ...]:
        """Return the recipients of queued messages, the one whose message was queued first at the beginning."""

    def taken_by_others(self) -> frozenset[str]:
        """Return the recipients to which another process sends at present."""

    def take(self, recipient: str) -> bool:
        """Become the only process that sends to a recipient, until `release`; return False if another one is.

        Args:
            recipient: The name.
        """

    def check_taken(self, recipient: str) -> None:
        """Check just before a message is published that no other process can send to the recipient.

        Args:
            recipient: The name, from `take`.

        Raises:
            StoreError: Another process may send to it by now.
        """

    def release(self, recipient: str) -> None:
        """Let other processes send to a recipient.

        Args:
            recipient: The name, from `take`.
        """

    def note_sealed_to_epoch(self, number: int) -> None:
        """Store that a message is encrypted to an epoch key; it is durable when this returns.

        Args:
            number: Its number in the outbox.
        """

    def remove(self, number: int) -> None:
        """Remove a message; the removal is durable when this returns.

        Args:
            number: Its number in the outbox.
        """

    def forget_expired(self, now: int, usual: int, longest: int) -> Sequence[tuple[str, str]]:
        """Remove expired messages, and return the identifier and recipient of each.

        Args:
            now: Seconds since the epoch.
            usual: The lifetime in seconds of a message that has none of its own.
            longest: The longest lifetime in seconds: how long the recipient remembers what it has printed.
        """

    def correct_times(self, earliest: int, now: int, latest: int | None = None) -> None:
        """Set the queuing time to now for messages whose queuing time is impossible, because the clock was wrong.

        Args:
            earliest: The earliest possible queuing time, in seconds since the epoch.
            now: Seconds since the epoch.
            latest: The latest possible queuing time, in seconds since the epoch; None for now.
        """

    def follow_clock(self, now: int, at: BootTime) -> None:
        """Correct the queuing times of messages of this boot, if the clock has been set since they were queued.

        Args:
            now: Seconds since the epoch.
            at: The same time by the boot clock.
        """
