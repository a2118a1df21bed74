"""Deferred messages: stored on disk within limits, acknowledged, and retried until their sender can be looked up."""

import heapq
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from idlib.algorithms import PublicKey
from idlib.envelope import SealedTo, UnverifiedMessage, signing_key_of
from idlib.errors import Reason, UnsuitableKeyError
from idlib.names import IdentityName
from idlib.storage import Admission, Standing, WaitingLimits, WaitingMessage, drop_leftovers
from idlib.system.token_bucket import TokenBucket
from idlib.trust import MAX_MESSAGE_AGE_SECONDS, replay_entry
from idlib.verdict import ABSENCE_SECONDS, Cause
from messaging_receiver.adoption import Adoption, waiting_of
from messaging_receiver.queue_items import DecryptedMessage, Origin, SettledMessage
from messaging_receiver.stage import Stage
from messaging_receiver.waiting_index import (
    MAX_OPEN,
    MAX_OPEN_BYTES,
    MAX_RESERVED_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    Rank,
    Waiting,
    WaitingIndex,
)
from messaging_receiver.waiting_refusals import overdue, without_room

MAX_WAITING_SECONDS: Final = 24 * 3600
# A little longer than a failed look-up is cached.
FIRST_RETRY_SECONDS: Final = 6.0
LONGEST_RETRY_SECONDS: Final = 60.0
# For names of strangers, who can make up any number of them.
LONGEST_STRANGER_RETRY_SECONDS: Final = 600.0
# Limits the work that is left after an attack with made-up names.
STRANGER_RETRIES_AT_ONCE: Final = 50
SECONDS_PER_STRANGER_RETRY: Final = 0.1
_READ_AT_ONCE: Final = 16
# When a name without a record is looked up again, in seconds after its message was deferred.
_ABSENCE_SECONDS: Final = (15.0, 60.0, 300.0, 1200.0, ABSENCE_SECONDS)
# What a group keeps of messages that none of its receivers has in its index.
LIMITS_OF_A_GROUP: Final = WaitingLimits(
    reserved_bytes=MAX_RESERVED_BYTES,
    open_bytes=MAX_OPEN_BYTES,
    open_messages=MAX_OPEN,
    overhead_bytes=MESSAGE_OVERHEAD_BYTES,
    reserved_seconds=MAX_MESSAGE_AGE_SECONDS,
    open_seconds=MAX_WAITING_SECONDS,
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message held in memory because it cannot be decided yet.

    Args:
        message: The decrypted message.
        unverified: Its parsed content, not verified yet.
        contradicts: Whether none of its sender's known keys verifies it.
        is_absent: Whether its sender has no record, but may be new.
        is_unwanted: Whether it is stored for a later run.
    """

    message: DecryptedMessage
    unverified: UnverifiedMessage
    contradicts: bool = False
    is_absent: bool = False
    is_unwanted: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes, as counted for the limits."""
        return len(self.message.signed) + MESSAGE_OVERHEAD_BYTES


class Deferral:
    """The stored messages, and when to retry each sender's; used by one thread.

    Args:
        stage: The stage that defers messages.
        on_displaced: Called with a sender whose last stored message was displaced by other messages, or whose messages
            another receiver handles.
    """

    def __init__(self, stage: Stage[Any], on_displaced: Callable[[IdentityName], None]) -> None:
        self._stage = stage
        self._on_displaced = on_displaced
        self._context = stage.context
        self._store = stage.context.waiting_store
        self._index = WaitingIndex()
        self._delays: dict[IdentityName, float] = {}
        self._retry_at: dict[IdentityName, float] = {}
        self._retries_of_trusted: list[tuple[float, IdentityName]] = []
        self._retries_of_others: list[tuple[float, IdentityName]] = []
        self._rate_of_others = TokenBucket(STRANGER_RETRIES_AT_ONCE, SECONDS_PER_STRANGER_RETRY)
        self._context.writes.retry(self._load)
        self._adoption = Adoption(self._context, self._index)

    def __len__(self) -> int:
        return len(self._index)

    def is_awaited(self, sender: IdentityName) -> bool:
        """Return whether later messages of a sender have to wait for stored ones, to keep their order.

        Args:
            sender: The sender's name.
        """
        return self._index.is_awaited(str(sender))

    def note_unwanted(self, sender: IdentityName) -> None:
        """Note that a sender's messages are stored for a later run; they are displaced before those of this one.

        Args:
            sender: The sender's name.
        """
        self._index.set_rank(str(sender), Rank.UNWANTED)

    def split_by_room(self, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        """Return the messages that can be stored, and those of trusted names for which there is no room.

        Args:
            arrivals: The messages; those of the same sender in the order in which they arrived.
        """
        fitting: list[Arrival] = []
        excess: list[Arrival] = []
        taken = 0
        for arrival in arrivals:
            if not self.is_reserved(arrival):
                fitting.append(arrival)
            elif self._index.has_room(taken + arrival.size):
                taken += arrival.size
                fitting.append(arrival)
            else:
                excess.append(arrival)
        return fitting, excess

    def contradict(self, number: int) -> None:
        """Note that none of its sender's known keys verifies a stored message.

        Args:
            number: The message's number.
        """
        self._index.contradict(number)

    def senders(self) -> tuple[IdentityName, ...]:
        """Return the senders that have stored messages."""
        return tuple(map(IdentityName, self._index.senders()))

    def adopt_all(self) -> None:
        """Take over every message of other receivers that fits, before the first message of this run."""
        while self._adoption.may_have_more and not self._context.stopping.is_set():
            self.adopt()

    def note_lapse(self) -> None:
        """Note that other receivers may have taken over messages; any thread may call this."""
        self._adoption.note_lapse()

    @property
    def may_adopt(self) -> bool:
        """Whether `adopt` is due."""
        return time.monotonic() >= self._adoption.next_at

    def adopt(self) -> tuple[IdentityName, ...]:
        """Take over some messages of other receivers; return the senders whose messages to retry now."""
        names = self._adoption.adopt()
        self._refuse_displaced()
        self._adoption.drop_abandoned()
        senders = (IdentityName(name) for name in names if self._index.of(name))
        return tuple(sender for sender in senders if sender not in self._retry_at)

    def admit(self, arrivals: Sequence[Arrival]) -> tuple[tuple[Waiting, ...], list[Arrival]]:
        """Store messages in one durable write, so that they can be acknowledged; refuse those that do not fit.

        Args:
            arrivals: The messages; those of the same sender in the order in which they arrived.

        Returns:
            The messages that were stored and that we handle; and those that were neither stored nor refused, because
            the receiver that handles their sender adopts too little.
        """
        added = self._add_to_index(arrivals)
        kept = {number: _stored(arrival, waiting) for number, (arrival, waiting) in added.items()}
        displaced = tuple(self._index.displaced())
        removed = [message.number for message, _ in displaced if message.number not in kept]
        for message, _ in displaced:
            kept.pop(message.number, None)
        admissions = self._change(tuple(kept.values()), removed)
        for message, rank in displaced:
            self._context.refusals.note(*without_room(message.sender, rank))
        excess = [arrival for number, (arrival, _) in added.items() if admissions.get(number) is Admission.NO_ROOM]
        senders = {message.sender for message, _ in displaced} | {one.sender for one in kept.values()}
        self._forget_senders(senders - {str(arrival.unverified.sender) for arrival in excess})
        for number, (arrival, _) in added.items():
            match admissions.get(number):
                case Admission.COPY:
                    self._refuse_copy(arrival)
                case Admission.OURS | Admission.TO_BE_ADOPTED | None:
                    self._stage.finish(SettledMessage(arrival.message.origin))
        return tuple(one for number in kept if (one := self._index.get(number)) is not None), excess

    def _add_to_index(self, arrivals: Sequence[Arrival]) -> dict[int, tuple[Arrival, Waiting]]:
        """Give numbers to messages and add them to the index; refuse copies of deferred messages."""
        added: dict[int, tuple[Arrival, Waiting]] = {}
        numbers = iter(self._context.writes.retry(lambda: self._store.new_numbers(len(arrivals))))
        for arrival in arrivals:
            if self._index.holds(arrival.message.digest):
                self._refuse_copy(arrival)
                continue
            waiting = self._waiting(arrival, next(numbers))
            self._index.add(waiting)
            if arrival.is_unwanted:
                self.note_unwanted(arrival.unverified.sender)
            elif arrival.is_absent:
                self._index.set_rank(waiting.sender, Rank.ABSENT)
            elif self.has_failed(arrival.unverified.sender):
                self._index.set_rank(waiting.sender, Rank.FAILED)
            added[waiting.number] = arrival, waiting
        return added

    def _change(self, added: Sequence[WaitingMessage], removed: Sequence[int]) -> dict[int, Admission]:
        """Store and remove messages; return what became of each number to be added."""
        if not added and not removed:
            return {}
        results = self._context.writes.retry(lambda: self._store.change(added, removed))
        admissions = {message.number: result for message, result in zip(added, results, strict=True)}
        for number, admission in admissions.items():
            if admission is not Admission.OURS:
                self._index.remove(number)
        return admissions

    def refuse_excess(self, arrival: Arrival) -> None:
        """Refuse a message that could not be stored for want of room.

        Args:
            arrival: The message.
        """
        sender = arrival.unverified.sender
        self._stage.refuse(arrival.message.origin, *without_room(sender, None))
        self._forget_senders({str(sender)})

    def is_reserved(self, arrival: Arrival) -> bool:
        """Return whether a message waits in the area of trusted names.

        Args:
            arrival: The message.
        """
        return self._context.is_trusted(arrival.unverified.sender) and not self._is_contradicted(arrival)

    def _refuse_copy(self, arrival: Arrival) -> None:
        fact = f"a copy of a message from {arrival.unverified.sender} is already deferred"
        self._stage.refuse(arrival.message.origin, Reason.REPLAY, fact)

    def stored(self, sender: IdentityName) -> tuple[int, ...]:
        """Return the numbers of a sender's stored messages, in the order in which to retry them.

        Args:
            sender: The sender's name.
        """
        return tuple(message.number for message in self._index.of(str(sender)))

    def awaited(self, sender: IdentityName) -> tuple[int, ...]:
        """Return the numbers of a sender's stored messages, except those that none of its known keys verifies.

        Args:
            sender: The sender's name.
        """
        return tuple(message.number for message in self._index.of(str(sender)) if not message.contradicts)

    def read(self, numbers: Sequence[int]) -> Iterator[DecryptedMessage]:
        """Yield stored messages, except those that no longer exist; loads a limited number of them at a time.

        Args:
            numbers: The messages' numbers.
        """
        for start in range(0, len(numbers), _READ_AT_ONCE):
            portion = [number for number in numbers[start : start + _READ_AT_ONCE] if number in self._index]
            found = self._context.writes.retry(lambda wanted=portion: self._store.read(wanted))  # type: ignore[misc]
            self._drop_lost(set(portion) - {one.number for one in found})
            for one in found:
                sealed_to = SealedTo.EPOCH if one.is_sealed_to_epoch else SealedTo.IDENTITY
                origin = Origin(None, one.number)
                yield DecryptedMessage(one.signed, one.digest, one.received_at, origin, sealed_to=sealed_to)

    def _drop_lost(self, numbers: Set[int]) -> None:
        """Forget messages that are no longer in the store; count them as refused if its file was damaged."""
        for number in sorted(numbers):
            self._index.remove(number)
            # Otherwise another receiver has taken the message over, because our lease had expired.
            if not self._store.is_shared:
                self._context.refusals.note(Reason.STORE_DAMAGED, "a deferred message was lost: the file was damaged")

    def forget_message(self, number: int) -> None:
        """Remove a decided message from the index; the Forwarder removes it from the disk.

        Args:
            number: The message's number.
        """
        self._index.remove(number)

    def waited(self, number: int | None) -> float:
        """Return for how many seconds a message has waited.

        Args:
            number: The message's number; None if it is not stored.
        """
        message = None if number is None else self._index.get(number)
        # The clock of a database can go back.
        return 0.0 if message is None else max(0.0, self._context.timekeeper.elapsed() - message.deferred_at)

    def admits_absent(self, sender: IdentityName) -> bool:
        """Return whether one more message can wait for the record of a name that has none.

        Args:
            sender: The sender's name.
        """
        zone = self._context.discovery.zone_of(sender)
        return self._context.is_trusted(sender) or self._index.admits_absent(str(sender), zone)

    def postpone(self, sender: IdentityName, why: str, cause: Cause) -> None:
        """Schedule a retry of a sender's messages, each time after a longer delay.

        Args:
            sender: The sender's name.
            why: What is wrong, for the log.
            cause: What the messages wait for.
        """
        if cause is Cause.NEW_RECORD:
            self._note_absence(sender)
        elif cause is Cause.DNS:
            self._index.set_rank(str(sender), Rank.FAILED)
        if sender in self._retry_at:
            return
        if cause is Cause.NEW_RECORD:
            self._await_record(sender, why)
            return
        is_trusted = self._context.is_trusted(sender)
        longest = LONGEST_RETRY_SECONDS if is_trusted else LONGEST_STRANGER_RETRY_SECONDS
        delay = self._delays.get(sender, FIRST_RETRY_SECONDS)
        self._delays[sender] = min(2 * delay, longest)
        self._schedule(sender, time.monotonic() + delay, is_trusted=is_trusted)
        self._context.refusals.note_waiting(sender, delay, why)

    def _note_absence(self, sender: IdentityName) -> None:
        """Move the stored messages of a name without a record to the lowest rank, and refuse those that do not fit."""
        self._index.set_rank(str(sender), Rank.ABSENT)
        self._refuse_displaced()

    def _refuse_displaced(self) -> None:
        """Refuse stored messages that do not fit."""
        displaced = tuple(self._index.displaced())
        for message, rank in displaced:
            self._stage.refuse(Origin(None, message.number), *without_room(message.sender, rank))
        self._forget_senders({message.sender for message, _ in displaced})

    def _forget_senders(self, names: Set[str]) -> None:
        """Forget senders that have no stored messages left: strangers can make up any number of names."""
        for name in names:
            if not self._index.of(name):
                self.forget(IdentityName(name))
                self._on_displaced(IdentityName(name))

    def _await_record(self, sender: IdentityName, why: str) -> None:
        waited = max((self.waited(number) for number in self.stored(sender)), default=0.0)
        moment = next((moment for moment in _ABSENCE_SECONDS if moment > waited), _ABSENCE_SECONDS[-1])
        delay = max(moment - waited, FIRST_RETRY_SECONDS)
        self._schedule(sender, time.monotonic() + delay, is_trusted=self._context.is_trusted(sender))
        self._context.refusals.note_waiting(sender, delay, why)

    def has_failed(self, sender: IdentityName) -> bool:
        """Return whether an earlier look-up of a sender failed.

        Args:
            sender: The sender's name.
        """
        return sender in self._delays

    def due(self) -> Iterator[IdentityName]:
        """Yield each sender whose messages are due for a retry; of strangers, at most ten per second after a burst."""
        now = time.monotonic()
        while (sender := self._pop(self._retries_of_trusted, now)) is not None:
            yield sender
        while self._rate_of_others.has_token(now) and (sender := self._pop(self._retries_of_others, now)) is not None:
            self._rate_of_others.take(now)
            yield sender

    @property
    def next_due(self) -> float:
        """When `due` will next yield a sender, or `adopt` has something to do, on the monotonic clock."""
        first = self._adoption.next_at
        if self._retries_of_trusted:
            first = min(first, self._retries_of_trusted[0][0])
        if not self._retries_of_others:
            return first
        return min(first, max(self._retries_of_others[0][0], self._rate_of_others.next_token_at(time.monotonic())))

    def forget(self, sender: IdentityName) -> None:
        """Forget that a sender's messages were postponed.

        Args:
            sender: The sender's name.
        """
        self._delays.pop(sender, None)
        self._retry_at.pop(sender, None)

    def refuse_overdue(self, sender: IdentityName) -> None:
        """Refuse a sender's stored messages that have waited for too long.

        Args:
            sender: The sender's name.
        """
        elapsed = self._context.timekeeper.elapsed()
        for message in self._index.of(str(sender)):
            waited = elapsed - message.deferred_at
            if waited > (MAX_MESSAGE_AGE_SECONDS if message.is_reserved else MAX_WAITING_SECONDS):
                self._stage.refuse(Origin(None, message.number), *overdue(sender, waited))

    def _schedule(self, sender: IdentityName, moment: float, *, is_trusted: bool) -> None:
        self._retry_at[sender] = moment
        retries = self._retries_of_trusted if is_trusted else self._retries_of_others
        heapq.heappush(retries, (moment, sender))
        if len(retries) > 2 * len(self._retry_at) + 64:
            retries[:] = [(at, name) for at, name in retries if self._retry_at.get(name) == at]
            heapq.heapify(retries)

    def _pop(self, retries: list[tuple[float, IdentityName]], now: float) -> IdentityName | None:
        while retries and retries[0][0] <= now:
            moment, sender = heapq.heappop(retries)
            if self._retry_at.get(sender) == moment:
                del self._retry_at[sender]
                return sender
        return None

    def _waiting(self, arrival: Arrival, number: int) -> Waiting:
        sender = arrival.unverified.sender
        is_contradicted = self._is_contradicted(arrival)
        return Waiting(
            number,
            str(sender),
            self._context.discovery.zone_of(sender),
            arrival.size,
            self.is_reserved(arrival),
            is_contradicted,
            self._context.timekeeper.elapsed(),
            arrival.message.digest,
        )

    def _is_contradicted(self, arrival: Arrival) -> bool:
        """Return whether a message may be forged: its sender has known keys, and none of them verifies it."""
        if arrival.contradicts:
            return True
        sender = arrival.unverified.sender
        keys = self._context.discovery.last_known_keys(sender)
        if not keys:
            standing = self._context.writes.retry(lambda: self._context.memory.standing(str(sender)))
            keys = () if standing is None else _last_key(standing)
        return bool(keys) and signing_key_of(arrival.unverified, keys) is None

    def _load(self) -> None:
        drop_leftovers(self._context.memory, self._store)
        # If the replay memory was lost, `elapsed` starts again at 0, below the times at which messages were deferred.
        self._store.limit_deferral(self._context.timekeeper.elapsed())
        for one in self._store.index():
            self._index.add(waiting_of(one, self._context.discovery.zone_of(IdentityName(one.sender))))


def _last_key(standing: Standing) -> tuple[PublicKey, ...]:
    try:
        return () if standing.key is None else (PublicKey.from_der(standing.key),)
    except (ValueError, UnsuitableKeyError):
        # The key is damaged in the file, although the file itself can be read.
        return ()


def _stored(arrival: Arrival, waiting: Waiting) -> WaitingMessage:
    entry = replay_entry(arrival.unverified, arrival.message.digest)
    return WaitingMessage(
        number=waiting.number,
        sender=waiting.sender,
        signed=arrival.message.signed,
        digest=arrival.message.digest,
        identifier=entry.identifier,
        issued_at=entry.issued_at,
        received_at=arrival.message.received_at,
        deferred_at=waiting.deferred_at,
        is_asked_again=waiting.contradicts,
        is_reserved=waiting.is_reserved,
        is_sealed_to_epoch=arrival.message.sealed_to is SealedTo.EPOCH,
    )
