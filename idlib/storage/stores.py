"""What an engine implements: the stores of printed and of deferred messages, and the claims of messages to print."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol

from idlib.storage.clock_facts import ClockStore
from idlib.storage.values import (
    Abandoned,
    Admission,
    Claim,
    Dropped,
    Printed,
    Remembered,
    ReplayEntry,
    Standing,
    Tidied,
    WaitingEntry,
    WaitingLimits,
    WaitingMessage,
)

__all__ = [
    "Abandoned",
    "Admission",
    "Claim",
    "ClockStore",
    "Dropped",
    "Printed",
    "PrintingStore",
    "Remembered",
    "ReplayEntry",
    "ReplayStore",
    "Standing",
    "Tidied",
    "WaitingEntry",
    "WaitingLimits",
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

    If several receivers share the store, one of them at a time handles the messages of a sender. A message that another
    receiver has stored, or whose receiver has ended, becomes ours when `adopt` returns it.

    Any number of threads may use it. Every method may raise `StoreError`; repeating a call changes nothing more.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other receivers use the store too, and may have taken over or removed any of our messages."""

    def new_numbers(self, count: int) -> Sequence[int]:
        """Return numbers for messages to be added, in ascending order and higher than all those in use.

        Args:
            count: How many.
        """

    def index(self) -> Iterator[WaitingEntry]:
        """Yield every message of ours without its text, ordered by number; keep only a few in memory."""

    def read(self, numbers: Sequence[int]) -> tuple[WaitingMessage, ...]:
        """Return our messages with these numbers, in the order of the numbers given; skip others.

        Args:
            numbers: The numbers.
        """

    def change(self, added: Sequence[WaitingMessage], removed: Iterable[int]) -> tuple[Admission, ...]:
        """Add and remove deferred messages in one transaction, which is durable when this returns.

        Args:
            added: Messages with numbers from `new_numbers`.
            removed: Numbers of messages of ours to remove; others are ignored.

        Returns:
            What became of each message to be added.
        """

    def adopt(self, choose: Callable[[Sequence[Abandoned]], Collection[str]]) -> tuple[WaitingEntry, ...]:
        """Take over messages, and return them ordered by number.

        These are messages that other receivers have stored, from senders that we handle, and the messages of senders
        whose receiver has ended. Only a limited number is taken over at a time; if any were returned, call this again.

        Args:
            choose: Called with senders whose receiver has ended; returns those to take over. The others stay as they
                are.
        """

    def drop_abandoned(self, elapsed: float) -> tuple[Dropped, ...]:
        """Drop messages whose receiver ended some time ago, and which no receiver has taken over; return them.

        These are messages that have waited for too long, and the newest ones of strangers beyond the limits. Only a
        limited number is dropped at a time; if any were returned, call this again.

        Args:
            elapsed: The present time by the clock of `WaitingMessage.deferred_at`, in seconds.
        """

    def limit_deferral(self, elapsed: float) -> None:
        """Set the start of deferral to now for messages whose start is in the future.

        Args:
            elapsed: The present time by the clock of `WaitingMessage.deferred_at`, in seconds.
        """

    def wipe(self) -> None:
        """Erase removed texts as far as the engine can, and do other upkeep; call this about once a second."""


class PrintingStore(Protocol):
    """Decides which receiver prints a message, and makes durable that it was printed.

    One thread uses it, apart from `verdict`. Every method but `may_print` may raise `StoreError`; repeating it changes
    nothing more.
    """

    def verdict(self, entry: ReplayEntry) -> Remembered:
        """Return whether a message was printed before; if it is NEW, claiming it may still show that it was.

        Args:
            entry: What identifies the message; its signature has verified, and its age was accepted.
        """

    def claim(self, entries: Sequence[ReplayEntry]) -> tuple[Claim, ...]:
        """Claim messages, so that no other receiver prints them, and return the result for each.

        If a message is HELD, another receiver is about to print a copy of it, or this one does not know whether it may
        print: keep the message, and ask again after a pause, because the other receiver may die. A message that is
        claimed stays claimed until `finish`, or until the receiver ends.

        Args:
            entries: What identifies the messages, each different.
        """

    def may_print(self, entry: ReplayEntry) -> bool:
        """Return whether the claim of a message still holds; ask immediately before it is printed.

        If not, claim the message again.

        Args:
            entry: What identifies the message; it was claimed.
        """

    def finish(self, printed: Sequence[Printed], removed: Sequence[int], now: int) -> None:
        """Remember printed messages, end their claims and remove deferred messages; durable when this returns.

        Args:
            printed: The messages, in the order in which they were printed.
            removed: Numbers of deferred messages that are finished; unknown numbers are ignored.
            now: Seconds since the epoch.
        """


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
