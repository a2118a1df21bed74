"""The statements of the replay memory that run for each group of messages: few, because each is a round trip.

Any number of receivers run them at the same time. No row is kept in memory from one transaction to the next.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from idlib.storage import rules
from idlib.storage.postgresql.connection import Statements
from idlib.storage.remembering import PROVEN, UNPROVEN, Place, place
from idlib.storage.sender_rows import DROPPED_UNTIL, FLOOR, POOL, POOL_WATERMARK, Row
from idlib.storage.sql import Transaction
from idlib.storage.values import Printed, Remembered, ReplayEntry, Standing

# As in SQLite (`idlib.storage.replay`), apart from the types. `remembering` describes the tables `bound` and `unbound`.
SCHEMA: Final = """\
CREATE TABLE fact (name text COLLATE "C" PRIMARY KEY, value text NOT NULL);
CREATE TABLE sender (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL UNIQUE,
    zone text COLLATE "C" NOT NULL,
    printed bigint NOT NULL,
    first_printed_at bigint NOT NULL,
    last_printed_at bigint NOT NULL,
    proven_at bigint,
    apart_since bigint,
    watermark bigint NOT NULL,
    key bytea
);
CREATE INDEX sender_in_pool ON sender (last_printed_at) WHERE apart_since IS NULL;
CREATE INDEX sender_apart ON sender (last_printed_at) WHERE apart_since IS NOT NULL;
CREATE INDEX sender_by_zone ON sender (zone, last_printed_at) WHERE apart_since IS NOT NULL;
CREATE INDEX sender_with_watermark ON sender (watermark) WHERE watermark >= 0;
CREATE TABLE bound (
    slot integer NOT NULL,
    owner bigint NOT NULL,
    identifier bytea NOT NULL,
    second integer NOT NULL,
    PRIMARY KEY (slot, owner, identifier)
);
CREATE TABLE unbound (
    slot integer NOT NULL,
    owner bigint NOT NULL,
    identifier bytea NOT NULL,
    PRIMARY KEY (slot, owner, identifier)
)
"""

# All S608 below: the statements are put together from constants of this module alone.
_COLUMNS: Final = (
    "sender.id, sender.name, sender.zone, sender.printed, sender.first_printed_at, sender.last_printed_at,"
    " sender.proven_at, sender.apart_since, sender.watermark, sender.key"
)


def _slots(table: str, name: str) -> str:
    """Return SQL that names the slots of a table, each of which is found in the index by one step."""
    return f"""{name} (slot) AS ((SELECT min(slot) FROM {table}) UNION ALL
    SELECT (SELECT min(slot) FROM {table} WHERE {table}.slot > {name}.slot) FROM {name} WHERE {name}.slot IS NOT NULL)
"""  # noqa: S608


def _found(table: str, slots: str, owner: int | str) -> str:
    """Return SQL that is true if a table has the identifier, else null.

    As long as the server does not know how many rows there are, it may read whole slots for an array of owners, and
    also for EXISTS.
    """
    return f"""\
(SELECT true FROM {table} WHERE slot = ANY(ARRAY(SELECT slot FROM {slots}))
            AND owner = {owner} AND {table}.identifier = asked.identifier LIMIT 1)"""  # noqa: S608


def _number(name: str) -> str:
    return f"coalesce((SELECT value::bigint FROM fact WHERE name = '{name}'), {rules.NOTHING_FORGOTTEN})"  # noqa: S608


# One statement, because all of it must be from one moment: another receiver may forget entries and raise a watermark
# between two statements. An entry is looked for in the pool and apart, because its sender may just be moving.
_VERDICTS: Final = f"""\
WITH RECURSIVE {_slots("bound", "day")}, {_slots("unbound", "week")}
SELECT
    CASE WHEN asked.is_bound
        THEN coalesce({_found("bound", "day", POOL)}, {_found("bound", "day", "sender.id")}, false)
        ELSE coalesce({_found("unbound", "week", UNPROVEN)}, {_found("unbound", "week", PROVEN)}, false)
    END,
    {_number(FLOOR)}, {_number(POOL_WATERMARK)}, {_number(DROPPED_UNTIL)}, {_COLUMNS}
FROM unnest(?::text[], ?::bytea[], ?::boolean[]) WITH ORDINALITY AS asked (name, identifier, is_bound, number)
    LEFT JOIN sender ON sender.name = asked.name
ORDER BY asked.number
"""  # noqa: S608
_READ: Final = f"SELECT {_COLUMNS} FROM sender WHERE name = ANY(?::text[])"  # noqa: S608
# Sorted, here and below: receivers that lock the same rows in another order would wait for each other.
_LOCK: Final = f"{_READ} ORDER BY name FOR UPDATE"
_ADD_SENDERS: Final = f"""\
INSERT INTO sender (name, zone, printed, first_printed_at, last_printed_at, watermark)
    SELECT added.name, '', 0, ?, ?, {rules.NOTHING_FORGOTTEN} FROM unnest(?::text[]) AS added (name)
    ORDER BY added.name COLLATE "C" ON CONFLICT (name) DO NOTHING
"""  # noqa: S608
_UPDATE: Final = """\
UPDATE sender SET zone = ?, printed = ?, first_printed_at = ?, last_printed_at = ?, proven_at = ?, apart_since = ?,
    key = ? WHERE id = ?
"""
_ADD_BOUND: Final = """\
INSERT INTO bound SELECT * FROM unnest(?::integer[], ?::bigint[], ?::bytea[], ?::integer[])
    AS added (slot, owner, identifier, second) ORDER BY slot, owner, identifier ON CONFLICT DO NOTHING
"""
_ADD_UNBOUND: Final = """\
INSERT INTO unbound SELECT * FROM unnest(?::integer[], ?::bigint[], ?::bytea[])
    AS added (slot, owner, identifier) ORDER BY slot, owner, identifier ON CONFLICT DO NOTHING
"""
# Held by a receiver that adds entries, and exclusively by the one that moves entries of a name into the pool.
_ADDING_LOCK: Final = 0x44414E4A


def exclude_others(statements: Transaction) -> bool:
    """Make other receivers add no entries until the transaction ends; return whether none is adding any now.

    Args:
        statements: The transaction.
    """
    return bool(statements.execute("SELECT pg_try_advisory_xact_lock(?)", (_ADDING_LOCK,)).fetchone()[0])


def standing(statements: Transaction, name: str) -> Standing | None:
    """Return what is known about a name, or None if none of its messages is remembered.

    Args:
        statements: Runs the statement.
        name: The sender's name.
    """
    row = statements.execute(_READ, ([name],)).fetchone()
    return None if row is None else Standing(*row[1:])


def verdicts(statements: Transaction, entries: Sequence[ReplayEntry]) -> list[Remembered]:
    """Return for each message whether it was printed before.

    Args:
        statements: Runs the statement.
        entries: What identifies the messages.
    """
    asked = (
        [one.sender for one in entries],
        [one.identifier for one in entries],
        [one.issued_at is not None for one in entries],
    )
    found = []
    for entry, (is_found, *marks_and_row) in zip(entries, statements.execute(_VERDICTS, asked), strict=True):
        if is_found:
            found.append(Remembered.PRINTED)
        elif entry.issued_at is None:
            found.append(Remembered.NEW)
        else:
            floor, pool_watermark, dropped_until, number, *row = marks_and_row
            known = None if number is None else Standing(*row)
            found.append(rules.verdict_without_entry(entry.issued_at, known, floor, pool_watermark, dropped_until))
    return found


def remember(statements: Statements, printed: Sequence[Printed], now: int) -> None:
    """Remember messages that are not remembered yet.

    Args:
        statements: The transaction.
        printed: The messages, in the order in which they were printed.
        now: Seconds since the epoch.
    """
    # Until the end, no name moves into the pool: its entries would be added apart although it no longer is.
    statements.execute("SELECT pg_advisory_xact_lock_shared(?)", (_ADDING_LOCK,))
    names = sorted({message.entry.sender for message in printed})
    rows = _rows(statements.execute(_READ, (names,)))
    places, after = _after(rows, printed, now)
    changed = sorted({*after, *(name for name in names if name not in rows)})
    # Read again, and locked, because other receivers may be printing messages of the same senders.
    for name in changed:
        rows.pop(name, None)
    while missing := [name for name in changed if name not in rows]:
        statements.execute(_ADD_SENDERS, (now, now, missing))
        # The row may just have been deleted.
        rows |= _rows(statements.execute(_LOCK, (missing,)))
    if changed:
        places, after = _after(rows, printed, now)
        statements.executemany(_UPDATE, [_values(rows[name].number, one) for name, one in after.items()])
    bound = [(*one.key, one.second) for one in places if one.second is not None]
    if bound:
        statements.execute(_ADD_BOUND, tuple(map(list, zip(*bound, strict=True))))
    unbound = [one.key for one in places if one.second is None]
    if unbound:
        statements.execute(_ADD_UNBOUND, tuple(map(list, zip(*unbound, strict=True))))


def _after(rows: dict[str, Row], printed: Sequence[Printed], now: int) -> tuple[list[Place], dict[str, Standing]]:
    """Return where to store the entries of senders that have rows, and what has to be written about them."""
    places = []
    changed: dict[str, Standing] = {}
    for message in printed:
        entry = message.entry
        row = rows.get(entry.sender)
        if row is not None:
            kept = changed.get(entry.sender, row.standing)
            after = rules.after_printing(kept, message, now)
            if rules.is_worth_writing(kept, after):
                changed[entry.sender] = after
            places.append(place(entry, row.number, now, is_apart=after.apart_since is not None))
    return places, changed


def _rows(found: Iterable[Sequence[Any]]) -> dict[str, Row]:
    return {one[1]: Row(one[0], Standing(*one[1:])) for one in found}


def _values(number: int, after: Standing) -> tuple[object, ...]:
    return (
        after.zone,
        after.printed,
        after.first_printed_at,
        after.last_printed_at,
        after.proven_at,
        after.apart_since,
        after.key,
        number,
    )
