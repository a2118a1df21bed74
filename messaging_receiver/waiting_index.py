"""An index of the deferred messages, in memory and without their texts, which selects messages to displace if full.

Strangers compete only with strangers: messages of trusted names are in an area of their own, from which no other
message can displace them. Anyone can write any name into an unverified message, so within an area, the zone or sender
that uses most space loses messages first, the newest ones first.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Generic, TypeVar

from idlib.storage import Abandoned

MAX_RESERVED_BYTES: Final = 32 * 1024 * 1024
MAX_OPEN_BYTES: Final = 32 * 1024 * 1024
# Limits the memory for the index, because every stranger's message may have another name and zone. A message with a
# name of 64 characters or more counts more than once.
MAX_OPEN: Final = 20_480
_CHARACTERS_OF_A_NAME: Final = 64
# Each zone gets at most this share (a quarter) of the reserved area, so that no zone can fill it.
RESERVED_ZONES: Final = 4
# Roughly what a message uses on the disk and in memory in addition to its text.
MESSAGE_OVERHEAD_BYTES: Final = 256
K = TypeVar("K")


MAX_ABSENT: Final = 128
MAX_ABSENT_OF_A_NAME: Final = 2
MAX_ABSENT_OF_A_ZONE: Final = 8


class Rank(IntEnum):
    """The result of looking up a stranger's name so far; messages of a lower rank are displaced first.

    The names that `--from` does not name are not looked up: anyone can make them up.
    """

    UNWANTED = 0
    ABSENT = 1
    FAILED = 2
    NOT_ASKED = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """A deferred message, without its text.

    Args:
        number: Increases with each message that is deferred.
        sender: The sender's name, not verified.
        zone: The zone of that name.
        size: The size in bytes, as counted for the limits.
        is_reserved: Whether it is in the area of trusted names.
        contradicts: Whether none of the sender's known keys verifies it.
        deferred_at: When it was deferred, by `Timekeeper.elapsed`.
        digest: The message's digest.
    """

    number: int
    sender: str
    zone: str
    size: int
    is_reserved: bool
    contradicts: bool
    deferred_at: float
    digest: bytes


@dataclass(slots=True)
class Room:
    """How much more fits without displacing a message, apart from the limits for names without a record.

    Args:
        reserved: Bytes in the area of trusted names.
        open: Bytes in the area of strangers.
        weight: Messages there.
        share_of: Returns how many bytes of the area of trusted names a zone may still use.
    """

    reserved: int
    open: int
    weight: int
    share_of: Callable[[str], int]
    _shares: dict[str, int] = field(init=False, default_factory=dict)

    def take(self, messages: Abandoned, zone: str) -> bool:
        """Use room for all messages of a sender, and return True; return False if they do not fit.

        If the sender is trusted, only those in the area of trusted names have to fit, because strangers can write its
        name into any number of others.

        Args:
            messages: The sender's messages.
            zone: The zone of the sender's name.
        """
        reserved = messages.reserved_size + messages.reserved * MESSAGE_OVERHEAD_BYTES
        others = messages.open_size + messages.open * MESSAGE_OVERHEAD_BYTES
        weight = messages.open * _weight_of(messages.sender)
        share = self._shares.get(zone, self.share_of(zone))
        if reserved > min(self.reserved, share):
            return False
        if not messages.reserved and (others > self.open or weight > self.weight):
            return False
        self._shares[zone] = share - reserved
        self.reserved -= reserved
        self.open -= others
        self.weight -= weight
        return True


class Tally(Generic[K]):
    """An amount for each key; finds the key with the largest amount quickly."""

    def __init__(self) -> None:
        self._amounts: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []
        self.total = 0

    def __getitem__(self, key: K) -> int:
        return self._amounts.get(key, 0)

    def add(self, key: K, amount: int) -> None:
        """Add to the amount of a key.

        Args:
            key: The key.
            amount: What to add; negative to subtract.
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
    """A set of message numbers that finds the newest quickly; removed numbers are skipped when they are met."""

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
    """Messages in groups (zones or senders); the largest group is displaced first.

    Args:
        is_present: Returns whether a group still contains the message with a number.
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
    """The deferred messages, in two areas with limits: one for trusted names, one for strangers."""

    def __init__(self) -> None:
        self._messages: dict[int, Waiting] = {}
        # A sender's only message is stored without a dict, because thousands of small dicts would use more memory.
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
        """Return a message, or None if it is not deferred any more.

        Args:
            number: The message's number.
        """
        return self._messages.get(number)

    def senders(self) -> tuple[str, ...]:
        """Return the names that have deferred messages."""
        return tuple(self._of_sender)

    def holds(self, digest: bytes) -> bool:
        """Return whether a copy of a message is already deferred.

        Args:
            digest: The message's digest.
        """
        return digest in self._digests

    def of(self, sender: str) -> tuple[Waiting, ...]:
        """Return the messages of a sender, the oldest first; those that none of its known keys verifies come last.

        Args:
            sender: The sender's name.
        """
        return tuple(sorted(self._all_of(sender), key=lambda message: (message.contradicts, message.number)))

    def is_awaited(self, sender: str) -> bool:
        """Return whether later messages of a sender have to wait for a deferred one, to keep their order.

        Args:
            sender: The sender's name.
        """
        messages = self._of_sender.get(sender)
        number = 0 if messages is None else 1 if isinstance(messages, Waiting) else len(messages)
        return number > self._contradicting[sender]

    def has_room(self, size: int) -> bool:
        """Return whether more messages fit into the area of trusted names; does not check any zone's share.

        Args:
            size: Their total size in bytes.
        """
        return self._reserved.sizes.total + size <= MAX_RESERVED_BYTES

    def room(self) -> Room:
        """Return how much more fits."""
        return Room(
            MAX_RESERVED_BYTES - self._reserved.sizes.total,
            MAX_OPEN_BYTES - sum(area.sizes.total for area in self._open.values()),
            MAX_OPEN - sum(area.weight for area in self._open.values()),
            self._share_left,
        )

    def _share_left(self, zone: str) -> int:
        share = self._reserved_zones.get(zone)
        return MAX_RESERVED_BYTES // RESERVED_ZONES - (0 if share is None else share.sizes.total)

    def contradict(self, number: int) -> None:
        """Note that none of its sender's known keys verifies a message, so that later messages need not wait for it.

        Args:
            number: The message's number.
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
        """Add a message; call `displaced` afterwards to remove the messages that no longer fit.

        Args:
            message: A message that is not in the index.
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
        """Remove a message, if it is still deferred.

        Args:
            number: The message's number.
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
        """Set the rank of a name, if it has deferred messages.

        Args:
            sender: The name.
            rank: The result of its look-up.
        """
        old = self._rank(sender)
        if sender not in self._of_sender or rank is old:
            return
        # The rank is set before the messages are moved, because the areas use it to skip numbers that are gone.
        messages = tuple(self._all_of(sender))
        self._ranks[sender] = rank
        for message in messages:
            if not message.is_reserved:
                self._open[old].remove(message.zone, message)
                self._open[rank].add(message.zone, message)
        if rank is Rank.ABSENT:
            self._absent_names_to_check.add(sender)

    def admits_absent(self, sender: str, zone: str) -> bool:
        """Return whether one more message of a stranger's name without a record can be deferred.

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
        """Return the rank of a message; None if it is in the area of trusted names.

        Args:
            message: A deferred message.
        """
        return None if message.is_reserved else self._rank(message.sender)

    def displaced(self) -> Iterator[tuple[Waiting, Rank | None]]:
        """Remove messages until all limits are met; yield each with the rank that it had."""
        while (number := self._excess()) is not None:
            message = self._messages[number]
            rank = self.rank_of(message)
            self.remove(number)
            yield message, rank

    def _number_open(self, sender: str) -> int:
        return sum(not message.is_reserved for message in self._all_of(sender))

    def _excess_of_absent(self) -> int | None:
        # Names are checked first: a message beyond its name's limit must not displace another name's message.
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
        """Return the messages of a sender that wait for its record among those of names without a record."""
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
    return _weight_of(message.sender)


def _weight_of(sender: str) -> int:
    return 1 + len(sender) // _CHARACTERS_OF_A_NAME
