"""Which epoch key a sender encrypts to (docs/protocol.md, "Epoch keys in DNS"); no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from idlib.epochs.keys import IdentifiedEpochKey
from idlib.epochs.record import EpochRecords, PublishedEpoch

# For recipients whose clocks are ahead or behind.
MAX_LEAD_SECONDS: Final = 5 * 60
SHORTEST_REST_SECONDS: Final = 60 * 60
# As long as a broker keeps a message.
MAX_MESSAGE_LIFE_SECONDS: Final = 7 * 24 * 60 * 60


class Shortening(Enum):
    """Whether a message can be read for less time than its sender wanted, and whether that is unusual."""

    NONE = "the key exists for longer than the message"
    USUAL = "the recipient's keys never live as long as the longest message, 7 days"
    UNUSUAL = "the recipient's keys live for 7 days or more, but it has not published the next one in time"


@dataclass(frozen=True, slots=True)
class ChosenEpoch:
    """The epoch key to encrypt a message to.

    Args:
        epoch: The key.
        life_seconds: How long the message may take, which its expiry at the broker must not exceed.
        shortening: Whether that is less than the sender wanted. If it is `USUAL`, the sender's user is informed, and if
            it is `UNUSUAL`, warned.
    """

    epoch: PublishedEpoch
    life_seconds: int
    shortening: Shortening

    @property
    def key(self) -> IdentifiedEpochKey:
        """The key in the form in which `idlib.envelope` takes it."""
        return IdentifiedEpochKey(self.epoch.key_id, self.epoch.record.key)

    @property
    def readable_until(self) -> int:
        """When the recipient destroys the private half, in seconds since the epoch: the message cannot be read then."""
        return self.epoch.record.until


@dataclass(frozen=True, slots=True)
class NoLiveEpoch:
    """There is no epoch key that a message may be encrypted to, so it is not sent now.

    Args:
        reason: Why, in one line.
        may_be_outdated: Some record is not signed by a key in the device's TLSA records. After a change of the key,
            either may be outdated, so DNS is worth asking again.
    """

    reason: str
    may_be_outdated: bool = False


def choose(records: EpochRecords, now: int, life_seconds: int) -> ChosenEpoch | NoLiveEpoch:
    """Return the key that a sender encrypts a message to.

    It is the one that is destroyed first among those that exist for an hour longer than the message, because a message
    is secret from the time at which its key is destroyed; otherwise the one that is destroyed last.

    Args:
        records: The recipient's epoch records.
        now: The time, in seconds since the epoch.
        life_seconds: How long the message may take; more than 7 days counts as 7 days.
    """
    live = [epoch for epoch in records.usable if is_live(epoch, now)]
    if not live:
        return _no_live_epoch(records, now)
    life_seconds = min(life_seconds, MAX_MESSAGE_LIFE_SECONDS)
    needed = now + life_seconds + SHORTEST_REST_SECONDS
    lasting = [epoch for epoch in live if epoch.record.until >= needed]
    if lasting:
        return ChosenEpoch(min(lasting, key=_end), life_seconds, Shortening.NONE)
    last = max(live, key=_end)
    is_usual = last.record.until - last.record.start < MAX_MESSAGE_LIFE_SECONDS
    return ChosenEpoch(
        last, min(life_seconds, last.record.until - now), Shortening.USUAL if is_usual else Shortening.UNUSUAL
    )


def is_live(epoch: PublishedEpoch, now: int) -> bool:
    """Return whether senders may use a key: it starts in at most 5 minutes and lives for at least an hour.

    Args:
        epoch: The key.
        now: The time, in seconds since the epoch.
    """
    return epoch.record.start <= now + MAX_LEAD_SECONDS and epoch.record.until >= now + SHORTEST_REST_SECONDS


def _end(epoch: PublishedEpoch) -> tuple[int, str]:
    # The key's id makes the choice between two that are destroyed together independent of their order.
    return epoch.record.until, epoch.key_id


def _no_live_epoch(records: EpochRecords, now: int) -> NoLiveEpoch:
    may_be_outdated = any(skipped.is_signed_by_another for skipped in records.skipped)
    if not records.usable:
        return NoLiveEpoch(_why_none_is_usable(records), may_be_outdated)
    future = [epoch.record.start for epoch in records.usable if epoch.record.until >= now + SHORTEST_REST_SECONDS]
    if future:
        return NoLiveEpoch(f"its next epoch key starts at {_shown(min(future))}", may_be_outdated)
    return NoLiveEpoch(_why_all_are_over(records.usable, now), may_be_outdated)


def _why_none_is_usable(records: EpochRecords) -> str:
    if not records.skipped:
        return "it has published no epoch record"
    unusable = len(records.skipped)
    return f"none of its {unusable} epoch records can be used: {records.skipped[0].reason}"


def _why_all_are_over(usable: Sequence[PublishedEpoch], now: int) -> str:
    last = max(epoch.record.until for epoch in usable)
    if last > now:
        return f"its last epoch key is destroyed in less than an hour, at {_shown(last)}"
    return f"its last epoch key was destroyed at {_shown(last)}"


def _shown(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"
