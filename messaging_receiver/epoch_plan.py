"""Epoch keys for weeks ahead, for people who publish their records by hand."""

import math
from collections.abc import Sequence
from typing import Final

from idlib.epochs.halves import Halves, KeptHalf
from idlib.epochs.record import MAX_RECORDS
from idlib.epochs.schedule import Lifetimes, Now, current, period
from idlib.errors import ConfigurationError
from idlib.output import counted

WEEK_SECONDS: Final = 7 * 24 * 3600
_DAY_SECONDS: Final = 24 * 3600


def number_of_keys(weeks: int, lifetimes: Lifetimes) -> int:
    """Return how many keys are in use one after the other within some weeks.

    Args:
        weeks: How many weeks.
        lifetimes: How long a key is used and kept.

    Raises:
        ConfigurationError: There are more than a name can have records.
    """
    number = math.ceil(weeks * WEEK_SECONDS / lifetimes.length)
    if number > MAX_RECORDS:
        days = math.ceil(weeks * WEEK_SECONDS / MAX_RECORDS / _DAY_SECONDS)
        raise ConfigurationError(
            f"EPOCH_LENGTH is {lifetimes.length} s: {counted(weeks, 'week')} would need {number} epoch records, and a"
            f" name can have {MAX_RECORDS}; set EPOCH_LENGTH={days}d or more, also for the receiver, or give fewer"
            " weeks"
        )
    return number


def keys_ahead(halves: Halves, now: Now, lifetimes: Lifetimes, signer: bytes, number: int) -> list[KeptHalf]:
    """Return the key that is in use now and those that follow it; keys that are missing are created.

    Each is durable on the disk, with its successors, before this returns.

    Args:
        halves: The private halves on the disk.
        now: The time; the clock is trusted.
        lifetimes: How long a key is used and kept.
        signer: The fingerprint of the present identity key.
        number: How many keys.

    Raises:
        StoreError: A half cannot be read or written.
        ValueError: The clock is not trusted.
    """
    if now.clock is None:
        raise ValueError("the clock is not trusted")
    kept = [one for one in halves.stock().halves if one.half.signer == signer]
    first = current([one.half for one in kept], now, lifetimes, signer)
    chosen: list[KeptHalf] = [one for one in kept if first is not None and one.half.key_id == first.key_id]
    while len(chosen) < number:
        at = lifetimes.replaced_at(chosen[-1].half) if chosen else now.clock
        chosen.append(_following(kept, at, lifetimes) or _create(halves, now.clock, now.elapsed, at, lifetimes, signer))
    return chosen[:number]


def _following(kept: Sequence[KeptHalf], at: int, lifetimes: Lifetimes) -> KeptHalf | None:
    """Return the first key that takes over at a time, or soon after it: long before the one before is destroyed."""
    latest = at + min(lifetimes.length, lifetimes.retention) / 2
    found = [one for one in kept if at <= one.half.created_at < min(latest, lifetimes.replaced_at(one.half))]
    return min(found, key=lambda one: (one.half.created_at, one.half.key_id), default=None)


def _create(halves: Halves, clock: int, elapsed: float, at: int, lifetimes: Lifetimes, signer: bytes) -> KeptHalf:
    # By then the system has run for longer, so that the key lives as long as one that is created then.
    return halves.create(*period(at, lifetimes), elapsed + at - clock, signer)
