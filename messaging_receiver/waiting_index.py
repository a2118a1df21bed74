"""Which messages wait, kept in memory without their texts, and which of them give way if there are too many.

Strangers compete only with strangers: messages of trusted names wait in an area of their own, which no other message
can displace. What a name in an unverified message claims costs its author nothing, so within an area the zone or the
sender that takes most gives way first, and it loses what came last.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Generic, TypeVar

MAX_RESERVED_BYTES: Final = 32 * 1024 * 1024
MAX_OPEN_BYTES: Final = 32 * 1024 * 1024
# What is in memory of each is bounded by this: names and zones of strangers may all be different. A message counts once
# for each 64 characters of its sender's name that have begun.
MAX_OPEN: Final = 20_480
_CHARACTERS_OF_A_NAME: Final = 64
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
        if len(self._heap) > 2 * len(self._amounts) + 64:
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
    """Numbers of which the newest is found quickly; the caller tells which of them are gone."""

    __slots__ = ("_heap", "size")

    def __init__(self) -> None:
        self.size = 0
        self._heap: list[int] = []

    def add(self, number: int) -> None:
        self.size += 1
        heapq.heappush(self._heap, -number)

    def newest(self, is_present: Callable[[int], bool]) -> int:
        while not is_present(-self._heap[0]):
            heapq.heappop(self._heap)
        return -self._heap[0]

    def tidy(self, is_present: Callable[[int], bool]) -> None:
        if len(self._heap) > 2 * self.size + 16:
            self._heap = [number for number in set(self._heap) if is_present(-number)]
            heapq.heapify(self._heap)


class _Area:
    """Messages by the group that gives way together.

    Args:
        is_present: Tells whether a number of a group stands for a message that is still there.
    """

    def __init__(self, is_present: Callable[[str, int], bool]) -> None:
        self.sizes: Tally[str] = Tally()
        self.number = 0
        self.weight = 0
        self._is_present = is_present
        self._groups: dict[str, _Newest] = {}

    def add(self, group: str, message: Waiting) -> None:
        self.number += 1
        self.weight += _weight(message)
        self.sizes.add(group, message.size)
        members = self._groups.get(group)
        if members is None:
            members = self._groups[group] = _Newest()
        members.add(message.number)

    def remove(self, group: str, message: Waiting) -> None:
        self.number -= 1
        self.weight -= _weight(message)
        self.sizes.add(group, -message.size)
        members = self._groups[group]
        members.size -= 1
        if members.size:
            members.tidy(lambda number: self._is_present(group, number))
        else:
            del self._groups[group]

    def number_of(self, group: str) -> int:
        members = self._groups.get(group)
        return 0 if members is None else members.size

    def newest_of(self, group: str) -> int:
        return self._groups[group].newest(lambda number: self._is_present(group, number))

    def newest_of_largest(self) -> int | None:
        group = self.sizes.largest()
        return None if group is None else self.newest_of(group)


class WaitingIndex:
    """The messages that wait, within the bounds of two areas."""

    def __init__(self) -> None:
        self._messages: dict[int, Waiting] = {}
        # A single message of a sender stands for itself: an empty place in each of thousands of tables costs more.
        self._of_sender: dict[str, Waiting | dict[int, Waiting]] = {}
        self._ranks: dict[str, Rank] = {}
        self._digests: set[bytes] = set()
        self._open = {rank: _Area(self._presence_in(rank)) for rank in Rank}
        self._reserved = _Area(self._is_reserved_of)
        self._reserved_zones: dict[str, _Area] = {}
        self._crowded_zones: set[str] = set()
        self._absent_names_to_check: set[str] = set()
        self._absent_zones_to_check: set[str] = set()
        self._contradicting: Counter[str] = Counter()

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
        return tuple(sorted(self._all_of(sender), key=lambda message: (message.contradicts, message.number)))

    def is_awaited(self, sender: str) -> bool:
        """Return whether later messages of a sender have to stand behind one that waits.

        Args:
            sender: Its name.
        """
        messages = self._of_sender.get(sender)
        number = 0 if messages is None else 1 if isinstance(messages, Waiting) else len(messages)
        return number > self._contradicting[sender]

    def has_room(self, size: int) -> bool:
        """Return whether more messages fit into the area of trusted names; a zone's share is another matter.

        Args:
            size: In bytes, of all of them.
        """
        return self._reserved.sizes.total + size <= MAX_RESERVED_BYTES

    def contradict(self, number: int) -> None:
        """Note that no key that is known of its sender verifies a message: later ones need not stand behind it.

        Args:
            number: The message's.
        """
        message = self._messages.get(number)
        if message is None or message.contradicts:
            return
        changed = replace(message, contradicts=True)
        self._messages[number] = changed
        others = self._of_sender[message.sender]
        if isinstance(others, dict):
            others[number] = changed
        else:
            self._of_sender[message.sender] = changed
        self._contradicting[message.sender] += 1

    def add(self, message: Waiting) -> None:
        """Add a message; `displaced` tells which have to go for it.

        Args:
            message: Its number is larger than that of any other.
        """
        self._messages[message.number] = message
        others = self._of_sender.get(message.sender)
        if others is None:
            self._of_sender[message.sender] = message
        elif isinstance(others, Waiting):
            self._of_sender[message.sender] = {others.number: others, message.number: message}
        else:
            others[message.number] = message
        self._digests.add(message.digest)
        if message.contradicts:
            self._contradicting[message.sender] += 1
        if message.is_reserved:
            self._reserved.add(message.sender, message)
            share = self._reserved_zones.setdefault(message.zone, _Area(self._is_reserved_of))
            share.add(message.sender, message)
            if share.sizes.total > MAX_RESERVED_BYTES // RESERVED_ZONES:
                self._crowded_zones.add(message.zone)
        else:
            rank = self._rank(message.sender)
            self._open[rank].add(message.zone, message)
            if rank is Rank.ABSENT:
                self._absent_names_to_check.add(message.sender)

    def remove(self, number: int) -> None:
        """Remove a message, if it still waits.

        Args:
            number: Its own.
        """
        message = self._messages.pop(number, None)
        if message is None:
            return
        self._digests.discard(message.digest)
        if message.contradicts:
            self._contradicting[message.sender] -= 1
            if not self._contradicting[message.sender]:
                del self._contradicting[message.sender]
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
        if isinstance(others, dict):
            del others[number]
        if isinstance(others, Waiting) or not others:
            del self._of_sender[message.sender]
            self._ranks.pop(message.sender, None)

    def set_rank(self, sender: str, rank: Rank) -> None:
        """Note what DNS has said of a name, as long as messages of it wait.

        Args:
            sender: The name.
            rank: Which.
        """
        old = self._rank(sender)
        if sender not in self._of_sender or rank is old:
            return
        # Moved after the rank is set, by which an area tells what is still in it.
        messages = tuple(self._all_of(sender))
        self._ranks[sender] = rank
        for message in messages:
            if not message.is_reserved:
                self._open[old].remove(message.zone, message)
                self._open[rank].add(message.zone, message)
        if rank is Rank.ABSENT:
            self._absent_names_to_check.add(sender)

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
        return sum(not message.is_reserved for message in self._all_of(sender))

    def _excess_of_absent(self) -> int | None:
        # First the names: a message over its name's bound must not displace another of its zone.
        while self._absent_names_to_check:
            sender = next(iter(self._absent_names_to_check))
            messages = self._absent_of(sender)
            if len(messages) > MAX_ABSENT_OF_A_NAME:
                return max(message.number for message in messages)
            self._absent_names_to_check.discard(sender)
            self._absent_zones_to_check.update(message.zone for message in messages)
        absent = self._open[Rank.ABSENT]
        while self._absent_zones_to_check:
            zone = next(iter(self._absent_zones_to_check))
            if absent.number_of(zone) > MAX_ABSENT_OF_A_ZONE:
                return absent.newest_of(zone)
            self._absent_zones_to_check.discard(zone)
        return absent.newest_of_largest() if absent.number > MAX_ABSENT else None

    def _absent_of(self, sender: str) -> tuple[Waiting, ...]:
        """Return the messages of a sender that wait for a record at the places of names that have none."""
        if self._rank(sender) is not Rank.ABSENT:
            return ()
        return tuple(message for message in self._all_of(sender) if not message.is_reserved)

    def _excess(self) -> int | None:
        if (number := self._excess_of_absent()) is not None:
            return number
        areas = self._open.values()
        size, weight = sum(area.sizes.total for area in areas), sum(area.weight for area in areas)
        if size > MAX_OPEN_BYTES or weight > MAX_OPEN:
            newest = (area.newest_of_largest() for area in self._open.values())
            return next(number for number in newest if number is not None)
        for zone in self._crowded_zones:
            return self._reserved_zones[zone].newest_of_largest()
        return self._reserved.newest_of_largest() if self._reserved.sizes.total > MAX_RESERVED_BYTES else None

    def _all_of(self, sender: str) -> Collection[Waiting]:
        messages = self._of_sender.get(sender, ())
        if isinstance(messages, Waiting):
            return (messages,)
        return messages.values() if isinstance(messages, dict) else messages

    def _presence_in(self, rank: Rank) -> Callable[[str, int], bool]:
        def is_present(zone: str, number: int) -> bool:
            message = self._messages.get(number)
            return message is not None and message.zone == zone and self.rank_of(message) is rank

        return is_present

    def _is_reserved_of(self, sender: str, number: int) -> bool:
        message = self._messages.get(number)
        return message is not None and message.is_reserved and message.sender == sender

    def _rank(self, sender: str) -> Rank:
        return self._ranks.get(sender, Rank.NOT_ASKED)


def _weight(message: Waiting) -> int:
    return 1 + len(message.sender) // _CHARACTERS_OF_A_NAME
