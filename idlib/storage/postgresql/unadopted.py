"""Limits on deferred messages that no live receiver has in its index: nobody else counts them.

A receiver that is stuck, but has its lease, adopts nothing: others store only so much for it. What a receiver that has
ended leaves behind stays until another one takes it over, for no longer than if that receiver had not ended.
"""

from collections.abc import Sequence
from typing import Final

from idlib.storage.postgresql.connection import Statements
from idlib.storage.values import Dropped, WaitingLimits, WaitingMessage

_DROPPED_AT_ONCE: Final = 1000

# Number and size of the messages in each area, as `Abandoned` has them.
SIZES: Final = """\
    count(*) FILTER (WHERE is_reserved),
    coalesce(sum(octet_length(signed)) FILTER (WHERE is_reserved), 0)::bigint,
    count(*) FILTER (WHERE NOT is_reserved),
    coalesce(sum(octet_length(signed)) FILTER (WHERE NOT is_reserved), 0)::bigint
"""
# All S608 below: the statements are put together from constants of this module alone.
_STORED_FOR_OTHERS: Final = f"""\
SELECT {SIZES} FROM waiting JOIN waiting_sender USING (sender)
    WHERE waiting.holder IS NULL AND waiting_sender.holder <> ?
"""  # noqa: S608
_ABANDONED: Final = "FROM waiting JOIN waiting_sender USING (sender) WHERE waiting_sender.holder = ANY(?::text[])"
_OVERDUE: Final = f"""\
SELECT number {_ABANDONED} AND deferred_at < CASE WHEN is_reserved THEN ?::float8 ELSE ?::float8 END
    ORDER BY number LIMIT {_DROPPED_AT_ONCE}
"""
_EXCESS: Final = f"""\
SELECT number FROM (
    SELECT number, row_number() OVER by_age AS position, sum(octet_length(signed) + ?) OVER by_age AS size
    {_ABANDONED} AND NOT is_reserved WINDOW by_age AS (ORDER BY number)
) AS abandoned WHERE position > ? OR size > ? ORDER BY number DESC LIMIT {_DROPPED_AT_ONCE}
"""  # noqa: S608
# A receiver that runs may have taken some over since: their sender first, and then themselves.
_DROP: Final = """\
DELETE FROM waiting WHERE number IN (
    SELECT number FROM waiting JOIN waiting_sender USING (sender)
    WHERE number = ANY(?::bigint[]) AND waiting_sender.holder = ANY(?::text[])
    ORDER BY number FOR UPDATE SKIP LOCKED
) RETURNING sender, deferred_at
"""


class RoomForOthers:
    """How many more messages a receiver may store whose senders another one handles.

    Args:
        statements: The transaction.
        holder: The receiver's name among the holders of leases.
        limits: The limits on all such messages together.
    """

    def __init__(self, statements: Statements, holder: str, limits: WaitingLimits) -> None:
        (sums,) = statements.execute(_STORED_FOR_OTHERS, (holder,))
        reserved, reserved_size, number, size = map(int, sums)
        self._overhead = limits.overhead_bytes
        self._messages = limits.open_messages - number
        self._open = limits.open_bytes - size - number * self._overhead
        self._reserved = limits.reserved_bytes - reserved_size - reserved * self._overhead

    def take(self, message: WaitingMessage) -> bool:
        """Use room for a message, and return True; return False for it and all later ones of its area if it is full.

        Args:
            message: A message that is not stored yet.
        """
        size = len(message.signed.encode()) + self._overhead
        if message.is_reserved:
            self._reserved -= size
            return self._reserved >= 0
        self._messages -= 1
        self._open -= size
        return min(self._messages, self._open) >= 0


def drop_abandoned(
    statements: Statements, gone: Sequence[str], elapsed: float, limits: WaitingLimits
) -> tuple[Dropped, ...]:
    """Drop a limited number of messages of receivers that have ended: the overdue ones, then strangers' newest ones.

    Args:
        statements: The transaction.
        gone: The names of these receivers among the holders of leases.
        elapsed: The present time by the clock of `WaitingMessage.deferred_at`, in seconds.
        limits: The lifetimes, and the limits on all these messages together.
    """
    overdue = (elapsed - limits.reserved_seconds, elapsed - limits.open_seconds)
    excess = (limits.overhead_bytes, list(gone), limits.open_messages, limits.open_bytes)
    return (
        *_drop(statements, gone, _OVERDUE, (list(gone), *overdue), elapsed, is_overdue=True),
        *_drop(statements, gone, _EXCESS, excess, elapsed, is_overdue=False),
    )


def _drop(
    statements: Statements,
    gone: Sequence[str],
    selection: str,
    values: Sequence[object],
    elapsed: float,
    *,
    is_overdue: bool,
) -> list[Dropped]:
    numbers = [number for (number,) in statements.execute(selection, values)]
    if not numbers:
        return []
    rows = statements.execute(_DROP, (numbers, list(gone)))
    return [Dropped(sender, elapsed - deferred_at, is_overdue) for sender, deferred_at in rows]
