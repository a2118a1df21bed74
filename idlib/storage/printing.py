"""The claims of the only receiver of a name: it may print every message that it did not print before."""

from collections.abc import Sequence

from idlib.storage.stores import ReplayStore, WaitingStore
from idlib.storage.values import Claim, Printed, Remembered, ReplayEntry


class SolePrinting:
    """A `PrintingStore` for a receiver that shares its stores with no other.

    Args:
        replay: Remembers the printed messages.
        waiting: Stores the deferred messages.
    """

    def __init__(self, replay: ReplayStore, waiting: WaitingStore) -> None:
        self._replay = replay
        self._waiting = waiting

    def verdict(self, entry: ReplayEntry) -> Remembered:
        """Return whether a message was printed before.

        Args:
            entry: What identifies the message; its signature has verified, and its age was accepted.
        """
        return self._replay.verdict(entry)

    def claim(self, entries: Sequence[ReplayEntry]) -> tuple[Claim, ...]:
        """Return that each message is claimed: whether it was printed before has been checked.

        Args:
            entries: What identifies the messages.
        """
        return (Claim.CLAIMED,) * len(entries)

    def may_print(self, entry: ReplayEntry) -> bool:  # noqa: ARG002  # a claim of another engine may end
        """Return True.

        Args:
            entry: What identifies the message.
        """
        return True

    def finish(self, printed: Sequence[Printed], removed: Sequence[int], now: int) -> None:
        """Remember printed messages, and only then remove the stored ones: a crash in between repeats no message.

        Args:
            printed: The messages, in the order in which they were printed.
            removed: Numbers of deferred messages that are finished; unknown numbers are ignored.
            now: Seconds since the epoch.
        """
        if printed:
            self._replay.remember(printed, now)
        if removed:
            self._waiting.change((), removed)
