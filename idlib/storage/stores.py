"""What an engine implements: the stores of printed and of deferred messages."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from idlib.storage.clock_facts import ClockStore
from idlib.storage.values import Printed, Remembered, ReplayEntry, Standing, Tidied, WaitingEntry, WaitingMessage

__all__ = [
    "ClockStore",
    "Printed",
    "Remembered",
    "ReplayEntry",
    "ReplayStore",
    "Standing",
    "Tidied",
    "WaitingEntry",
    "WaitingMessage",
    "WaitingStore",
    "drop_leftovers",
]

_REMOVED_AT_ONCE: Final = 500


class ReplayStore(ClockStore, Protocol):
    """Remembers which messages were printed, what is known about their senders, and a few facts.

    Any number of threads may use it. Every method may raise `StoreError`; in that case nothing has changed.
    """

    def fact(self, name: str, default: str) -> str:
        """Return the value stored under a name; if there is none, store the default first.

        Args:
            name: The name of the fact.
            default: The value to store if there is none.
        """

    def standing(self, name: str) -> Standing | None:
        """Return what is known about a name, or None if none of its messages is remembered.

        Args:
            name: The sender's name.
        """

    def verdict(self, entry: ReplayEntry) -> Remembered:
        """Return whether a message was printed before.

        Args:
            entry: What identifies the message; its signature has verified, and its age was accepted.
        """

    def remember(self, printed: Sequence[Printed], now: int) -> None:
        """Remember printed messages in one transaction, which is durable when this returns.

        Args:
            printed: The messages, in the order in which they were printed.
            now: Seconds since the epoch.
        """

    def tidy(self, now: int) -> Tidied:
        """Forget one portion of what has expired or exceeds a limit; other threads wait at most 50 ms for it.

        Args:
            now: Seconds since the epoch, by a clock that is trusted.
        """

    def copy_log(self) -> None:
        """Do upkeep that makes no other thread wait; call this about once a second."""

    def raise_floor(self, issued_at: int) -> None:
        """Treat every message issued at or before a time as one that may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch; a time before the stored one changes nothing.
        """


class WaitingStore(Protocol):
    """Stores deferred messages. The caller keeps their index in memory and decides what happens to them.

    Any number of threads may use it. Every method may raise `StoreError`; in that case nothing has changed.
    """

    def last_number(self) -> int:
        """Return the highest number of a deferred message, or 0."""

    def index(self) -> Iterator[WaitingEntry]:
        """Yield every deferred message without its text, ordered by number; keep only a few in memory."""

    def read(self, numbers: Sequence[int]) -> tuple[WaitingMessage, ...]:
        """Return the deferred messages with these numbers, in the order of the numbers given; skip unknown numbers.

        Args:
            numbers: The numbers.
        """

    def change(self, added: Sequence[WaitingMessage], removed: Iterable[int]) -> None:
        """Add and remove deferred messages in one transaction, which is durable when this returns.

        Args:
            added: Messages with numbers that are not in use.
            removed: Numbers of messages to remove; unknown numbers are ignored.
        """

    def limit_deferral(self, elapsed: float) -> None:
        """Set the start of deferral to now for messages whose start is in the future.

        Args:
            elapsed: How many seconds the system has run, by the clock of `WaitingMessage.deferred_at`.
        """

    def wipe(self) -> None:
        """Erase removed texts from every file, if any may be left; call this about once a second."""


def drop_leftovers(replay: ReplayStore, waiting: WaitingStore) -> int:
    """Remove deferred messages that were printed before a crash, and return how many there were.

    A printed message is remembered first and removed from the deferred ones afterwards; a crash may come in between.

    Args:
        replay: The printed messages.
        waiting: The deferred messages.
    """
    dropped = 0
    numbers = []
    for one in waiting.index():
        if replay.verdict(ReplayEntry(one.sender, one.identifier, one.issued_at)) is Remembered.PRINTED:
            numbers.append(one.number)
        if len(numbers) == _REMOVED_AT_ONCE:
            waiting.change((), numbers)
            dropped += len(numbers)
            numbers.clear()
    if numbers:
        waiting.change((), numbers)
    return dropped + len(numbers)
