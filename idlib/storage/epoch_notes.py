"""What the outbox stores about epoch keys: which names were marked, and which texts were encrypted to an epoch key."""

from typing import Final

from idlib.storage.database import Database, repairing
from idlib.storage.pages import Value
from idlib.storage.salvage import Table, is_name
from idlib.system.times import EARLIEST_CREDIBLE_TIME

# If more are marked, those that were seen marked the longest time ago are forgotten.
MAX_MARKED_NAMES: Final = 4096
# Not WITHOUT ROWID, whose rows look like the entries of an index of `outgoing` in a damaged file.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS marked (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, seen_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS marked_by_time ON marked (seen_at);
CREATE TABLE IF NOT EXISTS sealed_to_epoch (number INTEGER PRIMARY KEY);
CREATE TRIGGER IF NOT EXISTS outgoing_unsealed AFTER DELETE ON outgoing BEGIN
    DELETE FROM sealed_to_epoch WHERE number = old.number;
END;
"""


def _is_plausible(row: tuple[Value, ...]) -> bool:
    number, name, seen_at = row
    assert isinstance(number, int)  # noqa: S101  # for mypy, here and below
    assert isinstance(seen_at, int)  # noqa: S101
    # No other table has a number that is so high beside a text.
    return number > 0 and is_name(name) and seen_at >= EARLIEST_CREDIBLE_TIME


MARKED: Final = Table("marked", ("number", "text", "integer"), _is_plausible)
SEALED: Final = Table("sealed_to_epoch", ("number",), lambda row: isinstance(row[0], int) and row[0] > 0)


class EpochNotes(Database):
    """What the outbox knows about epoch keys."""

    @repairing
    def note_sealed_to_epoch(self, number: int) -> None:
        """Store that a message is encrypted to an epoch key; it is durable when this returns.

        Args:
            number: Its number in the outbox.
        """
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sealed_to_epoch VALUES (?)", (number,))

    @repairing
    def note_mark(self, name: str, now: int) -> None:
        """Store that a name is marked as having epoch keys; it is durable when this returns.

        Args:
            name: The name.
            now: Seconds since the epoch; a time before this software was built counts as that time.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO marked (name, seen_at) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
                (name, max(now, EARLIEST_CREDIBLE_TIME)),
            )
            connection.execute(
                "DELETE FROM marked WHERE number IN"
                " (SELECT number FROM marked ORDER BY seen_at DESC, number DESC LIMIT -1 OFFSET ?)",
                (MAX_MARKED_NAMES,),
            )

    @repairing
    def forget_mark(self, name: str) -> None:
        """Forget that a name was marked; that is durable when this returns.

        Args:
            name: The name.
        """
        with self._transaction() as connection:
            connection.execute("DELETE FROM marked WHERE name = ?", (name,))

    @repairing
    def marked_at(self, name: str) -> int | None:
        """Return when a name was last seen marked, in seconds since the epoch; None if that is not known.

        Args:
            name: The name.
        """
        with self._reading() as connection:
            row = connection.execute("SELECT number, name, seen_at FROM marked WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        with self._judging_rows():
            MARKED.check(row)
        seen_at: int = row[2]
        return seen_at
