"""What is remembered about printed messages and for how long: pure rules, the same for every engine.

Messages of proven names are remembered apart, each name by itself. The messages of all other names share one pool, so
that strangers can only make the memory forget messages of strangers.
"""

from dataclasses import replace
from typing import Final

from idlib.storage.values import Printed, Standing

PROVEN_MESSAGES: Final = 3
PROVEN_SECONDS: Final = 3600
PROVEN_MEMORY_SECONDS: Final = 90 * 24 * 3600
# For how long a bound message is good, and how far its sender's clock may be ahead of ours.
MAX_MESSAGE_AGE_SECONDS: Final = 14 * 24 * 3600
MAX_CLOCK_LEAD_SECONDS: Final = 5 * 60
REPLAY_SECONDS: Final = MAX_MESSAGE_AGE_SECONDS + MAX_CLOCK_LEAD_SECONDS
UNBOUND_MEMORY_SECONDS: Final = 365 * 24 * 3600
# Longer than any entry of a name lives after its last printed message.
UNPROVEN_MEMORY_SECONDS: Final = 16 * 24 * 3600
# Past a bound, the oldest entries go; those issued within this time stay, so that no new message is ever refused.
MIN_REMEMBERED_SECONDS: Final = 15 * 60
MAX_REMEMBERED_OF_A_NAME: Final = 1_500_000
MAX_REMEMBERED_OF_UNPROVEN: Final = 1_000_000
MAX_REMEMBERED: Final = 4_000_000
MAX_REMEMBERED_UNBOUND: Final = 1_000_000
MAX_UNPROVEN_NAMES: Final = 100_000
MAX_PROVEN_NAMES: Final = 65_536
LAST_PRINT_LAG_SECONDS: Final = 3600
NOTHING_FORGOTTEN: Final = -1


def after_printing(standing: Standing | None, message: Printed, now: int) -> Standing:
    """Return what is known about a name after one more of its messages was printed.

    Args:
        standing: What was known before; None if nothing was.
        message: The printed message.
        now: Seconds since the epoch.
    """
    name = message.entry.sender
    if standing is None:
        standing = Standing(name, message.zone, 0, now, now, None, None, NOTHING_FORGOTTEN, message.key)
    printed = standing.printed + 1
    # A clock that was set back must not make the first message younger than it is.
    first = min(standing.first_printed_at, now) if standing.printed else now
    proven_at = standing.proven_at
    if proven_at is None and printed >= PROVEN_MESSAGES and now - first > PROVEN_SECONDS:
        proven_at = now
    apart_since = standing.apart_since
    if apart_since is None and (proven_at is not None or message.is_listed):
        apart_since = now
    return replace(
        standing,
        zone=message.zone,
        printed=printed,
        first_printed_at=first,
        last_printed_at=max(standing.last_printed_at, now),
        proven_at=proven_at,
        apart_since=apart_since,
        key=message.key,
    )


def is_worth_writing(kept: Standing | None, after: Standing) -> bool:
    """Return whether what is kept about a name has to be replaced after a print.

    Until a name is proven, its count decides. Afterwards only its key, its zone and the hour of its last print matter.

    Args:
        kept: What the engine keeps; None if nothing.
        after: What is known now.
    """
    if kept is None or not kept.is_proven:
        return True
    if (kept.zone, kept.key, kept.apart_since) != (after.zone, after.key, after.apart_since):
        return True
    return after.last_printed_at - kept.last_printed_at >= LAST_PRINT_LAG_SECONDS


def is_in_pool(standing: Standing | None, issued_at: int) -> bool:
    """Return whether the pool may hold an entry that a bound message of a name would repeat.

    Args:
        standing: What is known about the name; None if nothing is.
        issued_at: The message's `iat`, in seconds since the epoch.
    """
    if standing is None or standing.apart_since is None:
        return True
    # Entries of the pool were issued until then at the latest, by a clock that may lead, as this message's clock may.
    return issued_at <= standing.apart_since + REPLAY_SECONDS + 2 * MAX_CLOCK_LEAD_SECONDS


def latest_possible_issue(issued_at: int, latest_time: int, last_write: int | None, now: int) -> int:
    """Return until when a message can have been issued that a damaged file held, in seconds since the epoch.

    Args:
        issued_at: The latest `iat` of a message that is known to have been in it; -1 if none is.
        latest_time: The latest time that was recorded in it; 0 if none is known.
        last_write: When the file was last written; None if that is not known.
        now: What the clock shows.
    """
    latest = max(issued_at, latest_time)
    if last_write is not None and last_write > now:
        # The clock is late, or the time of the file is of no clock that was right.
        return max(latest, now) + MAX_CLOCK_LEAD_SECONDS
    return max(issued_at, max(latest_time, last_write or 0) + MAX_CLOCK_LEAD_SECONDS)


def forgotten_until(standing: Standing | None, pool_watermark: int, dropped_until: int) -> int:
    """Return up to which `iat` a message of a name may have been printed and forgotten; -1 if none was.

    Nothing that the name issued after its last message in the pool can have been forgotten there, however high others
    have driven the pool's watermark.

    Args:
        standing: What is known about the name; None if nothing is.
        pool_watermark: The watermark that all unproven names share.
        dropped_until: Up to which `iat` messages may have been printed of names about which nothing is known any more.
    """
    if standing is None:
        return min(pool_watermark, dropped_until)
    last_in_pool = standing.last_printed_at if standing.apart_since is None else standing.apart_since
    return max(standing.watermark, min(pool_watermark, last_in_pool + MAX_CLOCK_LEAD_SECONDS))
