"""What is remembered about printed messages and for how long: pure functions, the same for every engine.

The messages of each proven or listed name are remembered separately. The messages of all other names share one pool, so
that strangers can only make the memory forget messages of strangers.
"""

from typing import Final

from idlib.storage.values import Printed, Remembered, Standing
from idlib.system.times import MAX_MESSAGE_AGE_SECONDS

PROVEN_MESSAGES: Final = 3
PROVEN_SECONDS: Final = 3600
PROVEN_MEMORY_SECONDS: Final = 90 * 24 * 3600
# How far the clock of a message's sender may be ahead of ours.
MAX_CLOCK_LEAD_SECONDS: Final = 5 * 60
REPLAY_SECONDS: Final = MAX_MESSAGE_AGE_SECONDS + MAX_CLOCK_LEAD_SECONDS
UNBOUND_MEMORY_SECONDS: Final = 365 * 24 * 3600
# Longer than any entry of a name is kept after its last printed message.
UNPROVEN_MEMORY_SECONDS: Final = 16 * 24 * 3600
# Above a limit, the oldest entries are forgotten, but none issued within this time: no new message is ever refused.
MIN_REMEMBERED_SECONDS: Final = 15 * 60
MAX_REMEMBERED_OF_A_NAME: Final = 1_500_000
MAX_REMEMBERED_OF_UNPROVEN: Final = 1_000_000
MAX_REMEMBERED: Final = 4_000_000
MAX_REMEMBERED_UNBOUND: Final = 1_000_000
MAX_UNPROVEN_NAMES: Final = 100_000
MAX_PROVEN_NAMES: Final = 65_536
LAST_PRINT_LAG_SECONDS: Final = 3600
POOLED_LAST_PRINT_LAG_SECONDS: Final = 60
NOTHING_FORGOTTEN: Final = -1


def after_printing(standing: Standing | None, message: Printed, now: int) -> Standing:
    """Return what is known about a name after one more of its messages was printed.

    Args:
        standing: What was known before; None if nothing was known.
        message: The printed message.
        now: Seconds since the epoch.
    """
    name = message.entry.sender
    if standing is None:
        standing = Standing(name, message.zone, 0, now, now, None, None, NOTHING_FORGOTTEN, message.key)
    printed = standing.printed + 1
    # If the clock was wrong and has been set back, correct the time of the first message.
    first = min(standing.first_printed_at, now) if standing.printed else now
    proven_at = standing.proven_at
    if proven_at is None and printed >= PROVEN_MESSAGES and now - first > PROVEN_SECONDS:
        proven_at = now
    apart_since = standing.apart_since
    if apart_since is None and (proven_at is not None or message.is_listed):
        apart_since = now
    # Not `dataclasses.replace`, which takes three times as long; this runs for each message.
    return Standing(
        name,
        message.zone,
        printed,
        first,
        max(standing.last_printed_at, now),
        proven_at,
        apart_since,
        standing.watermark,
        message.key,
    )


def is_worth_writing(kept: Standing | None, after: Standing) -> bool:
    """Return whether the row of a name has to be written after one of its messages was printed.

    Always, until enough of its messages were printed to prove it; after that only if anything but the number and the
    time of its last message has changed, or that time is too far behind.

    Args:
        kept: What the engine has stored; None if nothing is stored.
        after: What is known now.
    """
    if kept is None or kept.printed < PROVEN_MESSAGES:
        return True
    if _lasting(after) != _lasting(kept):
        return True
    most = POOLED_LAST_PRINT_LAG_SECONDS if kept.apart_since is None else LAST_PRINT_LAG_SECONDS
    return after.last_printed_at - kept.last_printed_at >= most


def _lasting(standing: Standing) -> tuple[object, ...]:
    """Return everything but the number of messages and the time of the last one."""
    return (
        standing.zone,
        standing.first_printed_at,
        standing.proven_at,
        standing.apart_since,
        standing.watermark,
        standing.key,
    )


def latest_print(last_printed_at: int) -> int:
    """Return when a message of a name in the pool was printed last, at the latest, in seconds since the epoch.

    Args:
        last_printed_at: The stored time of its last printed message.
    """
    return last_printed_at + POOLED_LAST_PRINT_LAG_SECONDS


def is_in_pool(standing: Standing | None, issued_at: int) -> bool:
    """Return whether the pool may have an entry for a bound message of a name.

    Args:
        standing: What is known about the name; None if nothing is.
        issued_at: The message's `iat`, in seconds since the epoch.
    """
    if standing is None or standing.apart_since is None:
        return True
    # Its entries in the pool were issued by then at the latest. The clocks of both messages may be ahead.
    return issued_at <= standing.apart_since + REPLAY_SECONDS + 2 * MAX_CLOCK_LEAD_SECONDS


def latest_possible_issue(issued_at: int, latest_time: int, last_write: int | None, now: int) -> int:
    """Return the latest time at which a message in a damaged file can have been issued, in seconds since the epoch.

    Args:
        issued_at: The latest `iat` of the messages known to have been in it; -1 if none is known.
        latest_time: The latest time that was recorded in it; 0 if none is known.
        last_write: When the file was last written; None if that is not known.
        now: The time that the clock shows.
    """
    latest = max(issued_at, latest_time)
    if last_write is not None and last_write > now:
        # The clock is slow, or the time of the file comes from a clock that was wrong.
        return max(latest, now) + MAX_CLOCK_LEAD_SECONDS
    return max(issued_at, max(latest_time, last_write or 0) + MAX_CLOCK_LEAD_SECONDS)


def forgotten_until(standing: Standing | None, pool_watermark: int, dropped_until: int) -> int:
    """Return the latest `iat` of a message of a name that may have been printed and forgotten; -1 if there is none.

    The pool cannot have forgotten messages that the name issued after its last message in the pool, even if messages of
    other names have raised the pool's watermark further.

    Args:
        standing: What is known about the name; None if nothing is.
        pool_watermark: The watermark that all unproven names share.
        dropped_until: The latest `iat` of a printed message of a name that was itself forgotten.
    """
    if standing is None:
        return min(pool_watermark, dropped_until)
    last_in_pool = latest_print(standing.last_printed_at) if standing.apart_since is None else standing.apart_since
    return max(standing.watermark, min(pool_watermark, last_in_pool + MAX_CLOCK_LEAD_SECONDS))


def verdict_without_entry(
    issued_at: int, standing: Standing | None, floor: int, pool_watermark: int, dropped_until: int
) -> Remembered:
    """Return whether a bound message without an entry may have been printed and forgotten.

    Args:
        issued_at: Its `iat`, in seconds since the epoch.
        standing: What is known about its sender; None if nothing is.
        floor: The latest `iat` of a message, from any sender, that may have been printed and forgotten.
        pool_watermark: The watermark that all unproven names share.
        dropped_until: The latest `iat` of a printed message of a name that was itself forgotten.
    """
    if issued_at <= max(floor, forgotten_until(standing, pool_watermark, dropped_until)):
        return Remembered.MAYBE_FORGOTTEN
    return Remembered.NEW
