"""Takes over deferred messages from other receivers of the group.

The limits on deferred messages count for each receiver. Messages of senders whose receiver has ended are taken over
only if they fit, because they are already acknowledged: otherwise they stay in the store until a receiver has room, or
until they have waited for too long. Messages of trusted names need no room among those of strangers.
"""

import math
import threading
import time
from collections.abc import Collection, Sequence
from typing import Final

from idlib.names import IdentityName
from idlib.storage import Abandoned, WaitingEntry
from messaging_receiver.context import Context
from messaging_receiver.waiting_index import MESSAGE_OVERHEAD_BYTES, Waiting, WaitingIndex
from messaging_receiver.waiting_refusals import overdue, without_room

ADOPTION_SECONDS: Final = 1.0
# New messages are processed between two portions.
_PAUSE_SECONDS: Final = 0.1
_DROPPING_SECONDS: Final = 30.0


class Adoption:
    """Adds messages of other receivers to the index, and removes those that others have taken over; for one thread.

    Args:
        context: What the stages share.
        index: The deferred messages that this receiver handles.
    """

    def __init__(self, context: Context, index: WaitingIndex) -> None:
        self._context = context
        self._index = index
        self._may_have_more = context.waiting_store.is_shared
        self._next_at = time.monotonic() if self._may_have_more else math.inf
        self._has_lapsed = threading.Event()
        self._dropping_at = self._next_at

    @property
    def may_have_more(self) -> bool:
        """Whether there was something to adopt at the last attempt, or none was made yet."""
        return self._may_have_more

    @property
    def next_at(self) -> float:
        """When to look for messages again, or for some to drop, on the monotonic clock."""
        return min(self._next_at, self._dropping_at)

    def note_lapse(self) -> None:
        """Note that our lease had expired, so that others may have taken over messages; any thread may call this."""
        self._has_lapsed.set()

    def adopt(self) -> tuple[str, ...]:
        """Take over some messages, and return their senders; call `WaitingIndex.displaced` afterwards."""
        store = self._context.waiting_store
        if self._has_lapsed.is_set():
            self._has_lapsed.clear()
            self._forget_lost()
        adopted = self._context.writes.retry(lambda: store.adopt(self._choose))
        for one in adopted:
            # After our lease had expired, another receiver may have had the message in between.
            if one.number not in self._index:
                self._index.add(waiting_of(one, self._zone_of(one.sender)))
        self._may_have_more = bool(adopted)
        self._next_at = time.monotonic() + (_PAUSE_SECONDS if adopted else ADOPTION_SECONDS)
        return tuple(dict.fromkeys(one.sender for one in adopted))

    def drop_abandoned(self) -> None:
        """Drop messages that no receiver takes over and that are overdue or too many, and count them as refused."""
        if time.monotonic() < self._dropping_at:
            return
        store, elapsed = self._context.waiting_store, self._context.timekeeper.elapsed()
        dropped = self._context.writes.retry(lambda: store.drop_abandoned(elapsed))
        for one in dropped:
            refusal = overdue(one.sender, one.waited) if one.is_overdue else without_room(one.sender, None)
            self._context.refusals.note(*refusal)
        self._dropping_at = time.monotonic() + (_PAUSE_SECONDS if dropped else _DROPPING_SECONDS)

    def _forget_lost(self) -> None:
        """Remove messages from the index that are no longer ours: they would be counted, and take room, twice."""
        store = self._context.waiting_store
        ours = self._context.writes.retry(lambda: {one.number for one in store.index()})
        for message in [one for sender in self._index.senders() for one in self._index.of(sender)]:
            if message.number not in ours:
                self._index.remove(message.number)

    def _choose(self, senders: Sequence[Abandoned]) -> Collection[str]:
        room = self._index.room()
        return [one.sender for one in senders if room.take(one, self._zone_of(one.sender))]

    def _zone_of(self, sender: str) -> str:
        return self._context.discovery.zone_of(IdentityName(sender))


def waiting_of(entry: WaitingEntry, zone: str) -> Waiting:
    """Return a stored message as the index has it.

    Args:
        entry: The message.
        zone: The zone of its sender's name.
    """
    return Waiting(
        entry.number,
        entry.sender,
        zone,
        entry.size + MESSAGE_OVERHEAD_BYTES,
        entry.is_reserved,
        entry.is_asked_again,
        entry.deferred_at,
        entry.digest,
    )
