"""Which messages wait, kept in memory without their texts, and which of them give way if there are too many.

Strangers compete only with strangers: messages of trusted names wait in an area of their own, which no other message
can displace. What a name in an unverified message claims costs its author nothing, so within an area the zone or the
sender that takes most gives way first, and it loses what came last.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

MAX_RESERVED_BYTES: Final = 64 * 1024 * 1024
MAX_OPEN_BYTES: Final = 32 * 1024 * 1024
# Of the reserved area, so that no one zone takes the places of all others.
RESERVED_ZONES: Final = 4
# About what a message takes on the disk and in memory beside its text.
MESSAGE_OVERHEAD_BYTES: Final = 256
K = TypeVar("K")


MAX_ABSENT: Final = 128
MAX_ABSENT_OF_A_NAME: Final = 2
MAX_ABSENT_OF_A_ZONE: Final = 8


class Rank(IntEnum):
    """What DNS has said of a stranger's name so far: names of a lower rank give way first."""

    ABSENT = 0
    FAILED = 1
    NOT_ASKED = 2


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits.

    Args:
        number: The order in which messages began to wait.
        sender: The name in it.
        zone: Of that name.
        size: In bytes, as it counts towards the bounds.
        is_reserved: Whether it waits in the area of trusted names.
        contradicts: Whether no key that was known of the sender verifies it.
        deferred_at: When it began to wait, by `Timekeeper.elapsed`.
        digest: Of the message.
    """

    number: int
    sender: str
    zone: str
    size: int
    is_reserved: bool
    contradicts: bool
    deferred_at: float
    digest: bytes


class Tally(Generic[K]):
    """Amounts by their keys, of which the largest is found quickly."""

    def __init__(self) -> None:
        self._amounts: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []
        self.total = 0

    def __getitem__(self, key: K) -> int:
        return self._amounts.get(key, 0)

    def add(self, key: K, amount: int) -> None:
        """Add to the amount of a key.

        Args:
            key: Which.
            amount: Negative to take away.
        """
        self.total += amount
        present = self._amounts.get(key, 0) + amount
        if present:
            self._amounts[key] = present
            heapq.heappush(self._heap, (-present, key))
        else:
            self._amounts.pop(key, None)
        if len(self._heap) > 4 * len(self._amounts) + 64:
            self._heap = [(-each, key) for key, each in self._amounts.items()]
            heapq.heapify(self._heap)

    def largest(self) -> K | None:
        """Return the key with the largest amount, or None if there is none."""
        while self._heap:
            amount, key = self._heap[0]
            if self._amounts.get(key) == -amount:
                return key
            heapq.heappop(self._heap)
        return None


class _Newest:
    """Numbers of which the newest is found quickly."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self._heap: list[int] = []

    def add(self, number: int) -> None:
        self.numbers.add(number)
        heapq.heappush(self._heap, -number)

    def newest(self) -> int:
        while -self._heap[0] not in self.numbers:
            heapq.heappop(self._heap)
        return -self._heap[0]


class _Area:
    """Messages by the group that gives way together."""

    def __init__(self) -> None:
        self.sizes: Tally[str] = Tally()
        self.number = 0
        self._groups: dict[str, _Newest] = {}

    def add(self, group: str, message: Waiting) -> None:
        self.number += 1
        self.sizes.add(group, message.size)
        self._groups.setdefault(group, _Newest()).add(message.number)

    def remove(self, group: str, message: Waiting) -> None:
        self.number -= 1
        self.sizes.add(group, -message.size)
        members = self._groups[group]
        members.numbers.discard(message.number)
        if not members.numbers:
            del self._groups[group]

    def number_of(self, group: str) -> int:
        members = self._groups.get(group)
        return 0 if members is None else len(members.numbers)

    def newest_of(self, group: str) -> int:
        return self._groups[group].newest()

    def newest_of_largest(self) -> int | None:
        group = self.sizes.largest()
        return None if group is None else self._groups[group].newest()


class WaitingIndex:
    """The messages that wait, within the bounds of two areas."""

    def __init__(self) -> None:
        self._messages: dict[int, Waiting] = {}
        self._of_sender: dict[str, dict[int, Waiting]] = {}
        self._ranks: dict[str, Rank] = {}
        self._digests: set[bytes] = set()
        self._open = {rank: _Area() for rank in Rank}
        self._reserved = _Area()
        self._reserved_zones: dict[str, _Area] = {}
        self._crowded_zones: set[str] = set()
        self._absent_to_check: set[str] = set()
        self._awaited: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, number: int) -> bool:
        return number in self._messages

    def get(self, number: int) -> Waiting | None:
        """Return a message, or None if it does not wait any more.

        Args:
            number: Its own.
        """
        return self._messages.get(number)

    def senders(self) -> tuple[str, ...]:
        """Return the names of which messages wait."""
        return tuple(self._of_sender)

    def holds(self, digest: bytes) -> bool:
        """Return whether a copy of a message waits.

        Args:
            digest: Of the message.
        """
        return digest in self._digests

    def of(self, sender: str) -> tuple[Waiting, ...]:
        """Return the messages of a sender, the oldest first; those that contradict its known keys come last.

        Args:
            sender: Its name.
        """
        messages = self._of_sender.get(sender, {}).values()
        return tuple(sorted(messages, key=lambda message: (message.contradicts, message.number)))

    def is_awaited(self, sender: str) -> bool:
        """Return whether later messages of a sender have to stand behind one that waits.

        Args:
            sender: Its name.
        """
        return sender in self._awaited

    def has_room(self, zone: str, size_of_zone: int, size: int) -> bool:
        """Return whether more messages fit into the area of trusted names.

        Args:
            zone: Whose share is asked about.
            size_of_zone: In bytes, of the messages of that zone.
            size: In bytes, of all of them.
        """
        share = self._reserved_zones.get(zone)
        taken = 0 if share is None else share.sizes.total
        return (
            self._reserved.sizes.total + size <= MAX_RESERVED_BYTES
            and taken + size_of_zone <= MAX_RESERVED_BYTES // RESERVED_ZONES
        )

    def add(self, message: Waiting) -> None:
        """Add a message; `displaced` tells which have to go for it.

        Args:
            message: Its number is larger than that of any other.
        """
        self._messages[message.number] = message
        self._of_sender.setdefault(message.sender, {})[message.number] = message
        self._digests.add(message.digest)
        if not message.contradicts:
            self._awaited[message.sender] += 1
        if message.is_reserved:
            self._reserved.add(message.sender, message)
            share = self._reserved_zones.setdefault(message.zone, _Area())
            share.add(message.sender, message)
            if share.sizes.total > MAX_RESERVED_BYTES // RESERVED_ZONES:
                self._crowded_zones.add(message.zone)
        else:
            rank = self._rank(message.sender)
            self._open[rank].add(message.zone, message)
            if rank is Rank.ABSENT:
                self._absent_to_check.add(message.sender)

    def remove(self, number: int) -> None:
        """Remove a message, if it still waits.

        Args:
            number: Its own.
        """
        message = self._messages.pop(number, None)
        if message is None:
            return
        self._digests.discard(message.digest)
        if not message.contradicts:
            self._awaited[message.sender] -= 1
            if not self._awaited[message.sender]:
                del self._awaited[message.sender]
        if message.is_reserved:
            self._reserved.remove(message.sender, message)
            share = self._reserved_zones[message.zone]
            share.remove(message.sender, message)
            if share.sizes.total <= MAX_RESERVED_BYTES // RESERVED_ZONES:
                self._crowded_zones.discard(message.zone)
            if not share.sizes.total:
                del self._reserved_zones[message.zone]
        else:
            self._open[self._rank(message.sender)].remove(message.zone, message)
        others = self._of_sender[message.sender]
        del others[number]
        if not others:
            del self._of_sender[message.sender]
            self._ranks.pop(message.sender, None)

    def set_rank(self, sender: str, rank: Rank) -> None:
        """Note what DNS has said of a name, as long as messages of it wait.

        Args:
            sender: The name.
            rank: Which.
        """
        messages = self._of_sender.get(sender)
        old = self._rank(sender)
        if messages is None or rank is old:
            return
        for message in messages.values():
            if not message.is_reserved:
                self._open[old].remove(message.zone, message)
                self._open[rank].add(message.zone, message)
        self._ranks[sender] = rank
        if rank is Rank.ABSENT:
            self._absent_to_check.add(sender)

    def admits_absent(self, sender: str, zone: str) -> bool:
        """Return whether one more message can wait of a stranger's name that has no record.

        Args:
            sender: The name.
            zone: Its zone.
        """
        absent = self._open[Rank.ABSENT]
        return (
            absent.number < MAX_ABSENT
            and absent.number_of(zone) < MAX_ABSENT_OF_A_ZONE
            and self._number_open(sender) < MAX_ABSENT_OF_A_NAME
        )

    def rank_of(self, message: Waiting) -> Rank | None:
        """Return the rank by which a message waits; None for the area of trusted names.

        Args:
            message: One that waits.
        """
        return None if message.is_reserved else self._rank(message.sender)

    def displaced(self) -> Iterator[tuple[Waiting, Rank | None]]:
        """Remove and yield messages, with the ranks by which they waited, until the bounds are kept."""
        while (number := self._excess()) is not None:
            message = self._messages[number]
            rank = self.rank_of(message)
            self.remove(number)
            yield message, rank

    def _number_open(self, sender: str) -> int:
        return sum(not message.is_reserved for message in self._of_sender.get(sender, {}).values())

    def _excess_of_absent(self) -> int | None:
        absent = self._open[Rank.ABSENT]
        for sender in tuple(self._absent_to_check):
            messages = [one for one in self._of_sender.get(sender, {}).values() if not one.is_reserved]
            if messages and self._rank(sender) is Rank.ABSENT:
                if len(messages) > MAX_ABSENT_OF_A_NAME:
                    return max(one.number for one in messages)
                if absent.number_of(messages[0].zone) > MAX_ABSENT_OF_A_ZONE:
                    return absent.newest_of(messages[0].zone)
            self._absent_to_check.discard(sender)
        return absent.newest_of_largest() if absent.number > MAX_ABSENT else None

    def _excess(self) -> int | None:
        if (number := self._excess_of_absent()) is not None:
            return number
        if sum(area.sizes.total for area in self._open.values()) > MAX_OPEN_BYTES:
            newest = (area.newest_of_largest() for area in self._open.values())
            return next(number for number in newest if number is not None)
        for zone in self._crowded_zones:
            return self._reserved_zones[zone].newest_of_largest()
        return self._reserved.newest_of_largest() if self._reserved.sizes.total > MAX_RESERVED_BYTES else None

    def _rank(self, sender: str) -> Rank:
        return self._ranks.get(sender, Rank.NOT_ASKED)
