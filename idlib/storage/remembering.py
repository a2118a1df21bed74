"""Where the replay memory keeps the entry of a printed message, the same for every engine.

A slot is the day of the `iat` of a bound message, and the week in which an unbound one was printed. The keys begin with
it, so that what is forgotten together is stored together. An owner is a sender's id, or 0 for the pool; for an unbound
message it says whether its sender was remembered apart. `second` is the time of day of the `iat`.
"""

from typing import Final, NamedTuple

from idlib.storage.sender_rows import DAY, POOL, WEEK, Key
from idlib.storage.sql import Transaction
from idlib.storage.values import ReplayEntry

UNPROVEN: Final = 0
PROVEN: Final = 1


class Place(NamedTuple):
    """Where an entry is.

    Args:
        key: Its slot, its owner and the message's identifier.
        second: The last column of the table `bound`; None if the entry is in the table `unbound`.
    """

    key: Key
    second: int | None


def place(entry: ReplayEntry, number: int, now: int, *, is_apart: bool) -> Place:
    """Return where to keep the entry of a message that is printed now.

    Args:
        entry: The entry.
        number: The id of its sender.
        now: Seconds since the epoch.
        is_apart: Whether the messages of its sender are remembered separately.
    """
    if entry.issued_at is None:
        return Place((now // WEEK, PROVEN if is_apart else UNPROVEN, entry.identifier), None)
    day, second = divmod(entry.issued_at, DAY)
    return Place((day, number if is_apart else POOL, entry.identifier), second)


def insert(transaction: Transaction, place: Place) -> bool:
    """Store an entry, and return whether it is new.

    Args:
        transaction: Runs the statements.
        place: Where to store it.
    """
    if place.second is None:
        rows = transaction.execute("INSERT INTO unbound VALUES (?, ?, ?) ON CONFLICT DO NOTHING", place.key)
    else:
        rows = transaction.execute(
            "INSERT INTO bound VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (*place.key, place.second)
        )
    return bool(rows.rowcount)
