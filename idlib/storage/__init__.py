"""What must survive a restart: printed messages, messages that wait for DNS, and messages that wait to be sent.

`rules` decides what is remembered and for how long, for every engine; `ReplayStore` and `WaitingStore` are what an
engine implements. On a device the engine is SQLite: `replay`, `waiting` and `outbox` over `database`; `migration` reads
the file of release 0.1.0.
"""

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

    Any number of threads may use it. Every method may raise `StoreError`; nothing has changed then.
    """

    def fact(self, name: str, default: str) -> str:
        """Return the value kept under a name; keep the default first if there is none yet.

        Args:
            name: What the value is.
            default: The value to keep the first time.
        """

    def standing(self, name: str) -> Standing | None:
        """Return what is known about a name, or None if none of its messages is remembered.

        Args:
            name: The sender's name.
        """

    def verdict(self, entry: ReplayEntry) -> Remembered:
        """Return whether a message was printed before.

        Args:
            entry: What it is recognized by; its signature has verified, and its age was accepted.
        """

    def remember(self, printed: Sequence[Printed], now: int) -> None:
        """Remember printed messages as one group, which is durable when this returns.

        Args:
            printed: The messages, in the order in which they were printed.
            now: Seconds since the epoch.
        """

    def tidy(self, now: int) -> Tidied:
        """Forget one portion of what is expired or past a bound; other threads wait at most 50 ms for it.

        Args:
            now: Seconds since the epoch, by a clock that is trusted.
        """

    def raise_floor(self, issued_at: int) -> None:
        """Treat every message issued at or before a time as one that may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch; an earlier one than is kept changes nothing.
        """


class WaitingStore(Protocol):
    """Keeps the messages that wait for DNS. The caller keeps their index in memory and decides about them.

    Any number of threads may use it. Every method may raise `StoreError`; nothing has changed then.
    """

    def last_number(self) -> int:
        """Return the highest number of a message that waits, or 0."""

    def index(self) -> Iterator[WaitingEntry]:
        """Yield every waiting message without its text, ordered by number, holding few of them in memory."""

    def read(self, numbers: Sequence[int]) -> tuple[WaitingMessage, ...]:
        """Return the waiting messages with these numbers, in the order of the numbers given; unknown ones are left out.

        Args:
            numbers: Their numbers.
        """

    def change(self, added: Sequence[WaitingMessage], removed: Iterable[int]) -> None:
        """Change what waits as one group, which is durable when this returns.

        Args:
            added: Messages with numbers that are not in use.
            removed: Numbers of messages that wait no longer; unknown ones are ignored.
        """

    def limit_deferral(self, elapsed: float) -> None:
        """Let messages that began to wait later than now have begun now.

        Args:
            elapsed: For how many seconds the system has run, by the clock of `WaitingMessage.deferred_at`.
        """

    def wipe(self) -> None:
        """Make sure that no removed text is left in any file, if one may be; to be called about once a second."""


def drop_leftovers(replay: ReplayStore, waiting: WaitingStore) -> int:
    """Remove waiting messages that were printed before a crash, and return how many there were.

    A printed message is remembered first and removed from those that wait afterwards; a crash may come between the two.

    Args:
        replay: The messages that were printed.
        waiting: The messages that wait.
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
