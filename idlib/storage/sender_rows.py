"""What is held in memory about the tables of the replay memory: numbers of entries and names, and a few rows.

All of it can be read again; this is done after a failed change. The entries are counted in portions after each start,
so that no totals have to be written. With PostgreSQL, only the receiver that forgets entries holds it, and only for one
pass; meanwhile other receivers add entries, so the numbers are those of the start of the pass.
"""

from collections import Counter, OrderedDict
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from idlib.storage.pages import Value
from idlib.storage.rules import NOTHING_FORGOTTEN
from idlib.storage.salvage import Table, check_ascending, is_name
from idlib.storage.sql import Transaction
from idlib.storage.values import Standing

POOL: Final = 0
DAY: Final = 24 * 3600
WEEK: Final = 7 * DAY
# The latest time that a `datetime` can represent.
LAST_SECOND: Final = int(datetime.max.replace(tzinfo=UTC).timestamp())
MAX_CACHED_STANDINGS: Final = 4096
FLOOR: Final = "floor"
POOL_WATERMARK: Final = "pool_watermark"
DROPPED_UNTIL: Final = "dropped_until"
_COLUMNS: Final = "id, name, zone, printed, first_printed_at, last_printed_at, proven_at, apart_since, watermark, key"


def _is_plausible(row: tuple[Value, ...]) -> bool:
    return is_name(row[1])


SENDERS: Final = Table(
    "sender",
    (
        "number",
        "text",
        "text",
        "integer",
        "integer",
        "integer",
        "integer or null",
        "integer or null",
        "integer",
        "blob or null",
    ),
    _is_plausible,
)

Key = tuple[int, int, bytes]
_BEFORE_ALL: Final[Key] = (-1, -1, b"")


class MiscountError(ValueError):
    """There are fewer rows than were counted: the file is damaged, or another receiver has changed them meanwhile."""


@dataclass(frozen=True, slots=True)
class Row:
    """The row of one sender.

    Args:
        number: The number that represents the name in the entries.
        standing: The rest of the row.
    """

    number: int
    standing: Standing


@dataclass(slots=True)
class Tally:
    """How many entries a table has for each pair of its first two columns, or for the second alone.

    Args:
        table: `bound` or `unbound`.
        slots: The values in the first column: days or weeks.
        amounts: How many entries were counted, by slot and owner; for `bound`, which has many owners, by owner alone.
        counted_to: The key up to which the table has been counted; None once it has been counted completely.
    """

    table: str
    slots: set[int]
    amounts: Counter[tuple[int, int]] = field(default_factory=Counter)
    counted_to: Key | None = _BEFORE_ALL

    @classmethod
    def start(cls, transaction: Transaction, table: str) -> Self:
        """Return a tally that knows the slots and has counted nothing yet."""
        return cls(table, slots_of(transaction, table))

    def add(self, key: Key) -> None:
        """Count a new entry, unless it is in the part of the table that is still to be counted."""
        self.slots.add(key[0])
        if self.counted_to is None or key <= self.counted_to:
            self.amounts[self._group(key[0], key[1])] += 1

    def take(self, slot: int, owner: int, number: int) -> None:
        """Subtract deleted entries; the whole table must have been counted.

        Args:
            slot: Their day or week.
            owner: Their owner.
            number: How many were deleted.
        """
        group = self._group(slot, owner)
        self.amounts[group] -= number
        if self.amounts[group] <= 0:
            # Fewer were counted if other receivers have added entries meanwhile.
            del self.amounts[group]

    def total(self) -> int:
        """Return the total number of entries."""
        return self.amounts.total()

    def count(self, transaction: Transaction, limit: int) -> None:
        """Count the next entries.

        Args:
            transaction: Runs the statements.
            limit: How many entries to count.
        """
        assert self.counted_to is not None  # noqa: S101  # for mypy
        table = self.table
        end = transaction.execute(
            f"SELECT slot, owner, identifier FROM {table} WHERE (slot, owner, identifier) > (?, ?, ?)"  # noqa: S608
            " ORDER BY slot, owner, identifier LIMIT 1 OFFSET ?",
            (*self.counted_to, limit),
        ).fetchone()
        if end is not None:
            check_ascending([end], self.counted_to)
        within = "(slot, owner, identifier) > (?, ?, ?)" + (
            " AND (slot, owner, identifier) <= (?, ?, ?)" if end else ""
        )
        for slot, owner, number in transaction.execute(
            f"SELECT slot, owner, count(*) FROM {table} WHERE {within} GROUP BY slot, owner",  # noqa: S608
            (*self.counted_to, *(end or ())),
        ):
            self.amounts[self._group(slot, owner)] += number
        self.counted_to = end

    def _group(self, slot: int, owner: int) -> tuple[int, int]:
        return (0, owner) if self.table == "bound" else (slot, owner)


def slots_of(transaction: Transaction, table: str) -> set[int]:
    """Return the values in the first column of a table of entries.

    Args:
        transaction: Runs the statements.
        table: `bound` or `unbound`.
    """
    slots: set[int] = set()
    last = -1
    while True:
        sql = f"SELECT min(slot) FROM {table} WHERE slot > ?"  # noqa: S608  # of ours alone
        found = transaction.execute(sql, (last,)).fetchone()[0]
        if found is None:
            return slots
        if not isinstance(found, int):
            # In SQLite a text or a blob is greater than any number.
            raise ValueError(f"a slot of the table {table} is {found!r}")  # noqa: TRY004  # not a mistake of the caller
        check_ascending([found], last)
        slots.add(found)
        last = found


@dataclass(slots=True)
class SenderRows:
    """All that is held in memory.

    Args:
        floor: The latest `iat` of a message, from any sender, that may have been printed and forgotten.
        pool_watermark: The same for names whose messages are in the pool.
        dropped_until: The latest `iat` of a printed message of a name whose row was dropped.
        bound: How many bound messages are remembered.
        unbound: How many unbound messages are remembered.
        pooled_names: How many names have a row and their messages in the pool.
        apart_names: How many names have their messages remembered separately, by zone.
    """

    floor: int
    pool_watermark: int
    dropped_until: int
    bound: Tally
    unbound: Tally
    pooled_names: int
    apart_names: Counter[str]
    _rows: OrderedDict[str, Row | None] = field(default_factory=OrderedDict)

    @classmethod
    def read(cls, transaction: Transaction) -> Self:
        """Read it from the tables."""
        facts = dict(transaction.execute("SELECT name, value FROM fact"))
        pooled = transaction.execute("SELECT count(*) FROM sender WHERE apart_since IS NULL").fetchone()[0]
        apart = transaction.execute(
            "SELECT zone, count(*) FROM sender WHERE apart_since IS NOT NULL GROUP BY zone"
        ).fetchall()
        return cls(
            floor=int(facts.get(FLOOR, NOTHING_FORGOTTEN)),
            pool_watermark=int(facts.get(POOL_WATERMARK, NOTHING_FORGOTTEN)),
            dropped_until=int(facts.get(DROPPED_UNTIL, NOTHING_FORGOTTEN)),
            bound=Tally.start(transaction, "bound"),
            unbound=Tally.start(transaction, "unbound"),
            pooled_names=pooled,
            apart_names=Counter(dict(apart)),
        )

    def row(self, transaction: Transaction, name: str) -> Row | None:
        """Return the row of a name, from memory if it was used recently."""
        if name in self._rows:
            self._rows.move_to_end(name)
            return self._rows[name]
        found = transaction.execute(f"SELECT {_COLUMNS} FROM sender WHERE name = ?", (name,)).fetchone()  # noqa: S608
        if found is not None:
            SENDERS.check(found)
        row = None if found is None else Row(found[0], Standing(*found[1:]))
        self._cache(name, row)
        return row

    def write(self, transaction: Transaction, before: Row | None, standing: Standing) -> Row:
        """Write the row of a name and return it.

        Args:
            transaction: Runs the statements.
            before: The row that it replaces; None if the name has none.
            standing: What is known about the name now.
        """
        values = (
            standing.zone,
            standing.printed,
            standing.first_printed_at,
            standing.last_printed_at,
            standing.proven_at,
            standing.apart_since,
            standing.watermark,
            standing.key,
        )
        if before is None:
            marks = ", ".join("?" * (len(values) + 1))
            columns = _COLUMNS.removeprefix("id, ")
            (number,) = transaction.execute(
                f"INSERT INTO sender ({columns}) VALUES ({marks}) RETURNING id",  # noqa: S608  # of ours alone
                (standing.name, *values),
            ).fetchone()
            row = Row(number, standing)
        else:
            assignments = " = ?, ".join(_COLUMNS.removeprefix("id, name, ").split(", ")) + " = ?"
            transaction.execute(
                f"UPDATE sender SET {assignments} WHERE id = ?",  # noqa: S608  # of ours alone
                (*values, before.number),
            )
            row = Row(before.number, standing)
            self._uncount(before.standing.zone, before.standing.apart_since)
        if standing.apart_since is None:
            self.pooled_names += 1
        else:
            self.apart_names[standing.zone] += 1
        self._cache(standing.name, row)
        return row

    def dropped(self, name: str, zone: str, apart_since: int | None) -> None:
        """Record that the row of a name was deleted."""
        self._uncount(zone, apart_since)
        self._rows.pop(name, None)

    def demoted(self, zone: str) -> None:
        """Record that a name's messages have been moved into the pool.

        Args:
            zone: The zone of the name.
        """
        self._uncount_apart(zone)
        self.pooled_names += 1

    def forget_cached(self, name: str) -> None:
        """Drop a cached row, because it was changed in the table."""
        self._rows.pop(name, None)

    def raise_floor(self, transaction: Transaction, issued_at: int) -> None:
        """Raise the floor, unless it is higher already."""
        if issued_at > self.floor:
            self.floor = issued_at
            raise_fact(transaction, FLOOR, issued_at)

    def lower_floor(self, transaction: Transaction, issued_at: int) -> bool:
        """Lower the floor, unless it is as low already; return whether it was lowered."""
        if issued_at >= self.floor:
            return False
        self.floor = issued_at
        return lower_fact(transaction, FLOOR, issued_at)

    def raise_pool_watermark(self, transaction: Transaction, issued_at: int) -> None:
        """Raise the watermark of the pool, unless it is higher already."""
        if issued_at > self.pool_watermark:
            self.pool_watermark = issued_at
            raise_fact(transaction, POOL_WATERMARK, issued_at)

    def raise_dropped_until(self, transaction: Transaction, issued_at: int) -> None:
        """Raise `dropped_until`, unless it is higher already."""
        if issued_at > self.dropped_until:
            self.dropped_until = issued_at
            raise_fact(transaction, DROPPED_UNTIL, issued_at)

    def _uncount(self, zone: str, apart_since: int | None) -> None:
        if apart_since is None:
            self.pooled_names -= 1
        else:
            self._uncount_apart(zone)

    def _uncount_apart(self, zone: str) -> None:
        self.apart_names[zone] -= 1
        if self.apart_names[zone] <= 0:
            del self.apart_names[zone]

    def _cache(self, name: str, row: Row | None) -> None:
        self._rows[name] = row
        self._rows.move_to_end(name)
        if len(self._rows) > MAX_CACHED_STANDINGS:
            self._rows.popitem(last=False)


def facts_table(integers: Set[str]) -> Table:
    """Return what the rows of a table of facts look like.

    Args:
        integers: The names of the facts that are times, in whole seconds since the epoch.
    """

    def is_plausible(row: tuple[Value, ...]) -> bool:
        name, value = row
        assert isinstance(name, str)  # noqa: S101  # for mypy, here and below
        assert isinstance(value, str)  # noqa: S101
        if name in integers and not NOTHING_FORGOTTEN <= int(value) <= LAST_SECOND:
            return False
        return name.isprintable() and value.isprintable()

    return Table("fact", ("text", "text"), is_plausible)


def keep(transaction: Transaction, name: str, value: object) -> None:
    """Store a fact, replacing an earlier one.

    Args:
        transaction: Runs the statements.
        name: The name of the fact.
        value: The value, stored as text.
    """
    transaction.execute(
        "INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, str(value))
    )


def raise_fact(transaction: Transaction, name: str, value: int) -> None:
    """Store a number as a fact, unless the stored one is higher.

    Args:
        transaction: Runs the statements.
        name: The name of the fact.
        value: The number.
    """
    transaction.execute(
        "INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        " WHERE CAST(fact.value AS bigint) < CAST(excluded.value AS bigint)",
        (name, str(value)),
    )


def lower_fact(transaction: Transaction, name: str, value: int) -> bool:
    """Store a number in place of a fact that is higher, and return whether there was one.

    Args:
        transaction: Runs the statements.
        name: The name of the fact.
        value: The number.
    """
    rows = transaction.execute(
        "UPDATE fact SET value = ? WHERE name = ? AND CAST(value AS bigint) > ?", (str(value), name, value)
    )
    return bool(rows.rowcount)
