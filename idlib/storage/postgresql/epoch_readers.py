"""Which receivers of a group can read which epoch keys, and which of them creates the next one.

The private halves themselves are never in the database: its log, its replicas and its backups would keep them.
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from idlib.storage.postgresql.connection import PostgresDatabase, Statements
from idlib.storage.postgresql.leases import is_live

_KEEPER_LOCK: Final = 0x45504F43
_SCHEMA: Final = """\
CREATE TABLE IF NOT EXISTS epoch_reader (
    holder text NOT NULL,
    key_id text NOT NULL,
    PRIMARY KEY (holder, key_id)
);
CREATE TABLE IF NOT EXISTS epoch_keeper (
    is_only boolean PRIMARY KEY CHECK (is_only),
    holder text NOT NULL,
    elapsed double precision NOT NULL
)
"""
_PART: Final = "epoch keys"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the database says after a receiver has confirmed its keys.

    Args:
        is_live: Whether the receiver is live; if not, the others do not wait for it.
        elsewhere: The ids of the keys that other live receivers can read.
    """

    is_live: bool
    elsewhere: frozenset[str]


class KeeperTurn:
    """The right of one receiver to create keys and to write the spool; no other one has it until the block ends.

    Args:
        statements: Run in the transaction that has the lock.
        holder: The receiver.
    """

    def __init__(self, statements: Statements, holder: str) -> None:
        self._statements = statements
        self._holder = holder

    def unconfirmed(self, key_id: str) -> int:
        """Return how many other live receivers have not confirmed that they can read a key.

        Args:
            key_id: The key's id. This receiver has read the key, which is noted, too.
        """
        self._statements.execute(
            "INSERT INTO epoch_reader VALUES (?, ?) ON CONFLICT DO NOTHING", (self._holder, key_id)
        )
        row = self._statements.execute(
            # Under another name, because `is_live` is about the table, too.
            f"SELECT count(DISTINCT holder) FROM receiver AS other WHERE holder <> ? AND {is_live('other.holder')}"  # noqa: S608
            " AND NOT EXISTS (SELECT 1 FROM epoch_reader AS confirmed"
            " WHERE confirmed.holder = other.holder AND confirmed.key_id = ?)",
            (self._holder, key_id),
        ).fetchone()
        return 0 if row is None else int(row[0])


class EpochReaders:
    """The confirmations of one receiver, and those of the others. Repeating a method changes nothing more.

    Every method may raise `StoreError`.

    Args:
        database: The database; a slow disk must not delay others, so nothing else should use this connection.
        holder: The receiver, which has a lease before it confirms anything.
    """

    def __init__(self, database: PostgresDatabase, holder: str) -> None:
        self._database = database
        self._holder = holder

    def prepare(self) -> None:
        """Create the tables, unless they exist; the table of the leases exists already."""
        self._database.prepare(_PART, _VERSION, _SCHEMA)

    def confirm(self, key_ids: Collection[str]) -> Confirmed:
        """Confirm that this receiver can read some keys, and no others.

        Args:
            key_ids: Their ids.
        """
        with self._database.transaction() as statements:
            own = list(key_ids)
            statements.execute(
                "DELETE FROM epoch_reader WHERE holder = ? AND key_id <> ALL (?::text[])", (self._holder, own)
            )
            statements.execute(
                "INSERT INTO epoch_reader SELECT ?, unnest(?::text[]) ON CONFLICT DO NOTHING", (self._holder, own)
            )
            row = statements.execute(f"SELECT {is_live('?')}", (self._holder,)).fetchone()
            elsewhere = statements.execute(
                f"SELECT DISTINCT key_id FROM epoch_reader WHERE holder <> ? AND {is_live('epoch_reader.holder')}",  # noqa: S608
                (self._holder,),
            ).fetchall()
        return Confirmed(row is not None and bool(row[0]), frozenset(key_id for (key_id,) in elsewhere))

    def elapsed(self) -> float:
        """Return for how many seconds the receivers have run, as far as that is recorded."""
        return _elapsed(self._database)

    @contextlib.contextmanager
    def turn(self, elapsed: float) -> Iterator[KeeperTurn | None]:
        """Give the right to create keys to the receiver that had it last, or to another one if that is not live.

        Args:
            elapsed: For how many seconds the receivers have run; the greatest value is recorded.

        Yields:
            The right, until the block ends; None if another receiver has it.
        """
        with self._database.transaction() as statements:
            yield KeeperTurn(statements, self._holder) if self._takes(statements, elapsed) else None

    def _takes(self, statements: Statements, elapsed: float) -> bool:
        # A receiver that has lost its lease while it writes to a slow disk still has the lock.
        row = statements.execute("SELECT pg_try_advisory_xact_lock(?)", (_KEEPER_LOCK,)).fetchone()
        if row is None or not row[0]:
            return False
        row = statements.execute(
            "INSERT INTO epoch_keeper VALUES (true, ?, ?) ON CONFLICT (is_only) DO UPDATE"  # noqa: S608
            " SET holder = EXCLUDED.holder, elapsed = GREATEST(epoch_keeper.elapsed, EXCLUDED.elapsed)"
            f" WHERE epoch_keeper.holder = EXCLUDED.holder OR NOT {is_live('epoch_keeper.holder')} RETURNING holder",
            (self._holder, elapsed),
        ).fetchone()
        if row is None:
            return False
        statements.execute(
            f"DELETE FROM epoch_reader WHERE holder <> ? AND NOT {is_live('epoch_reader.holder')}",  # noqa: S608
            (self._holder,),
        )
        return True


def read_elapsed(database: PostgresDatabase) -> float:
    """Return for how many seconds the receivers of a name have run, for a program that is not one of them.

    Args:
        database: The database, which a receiver may not have used yet.

    Raises:
        StoreError: The database cannot be used.
    """
    database.prepare(_PART, _VERSION, _SCHEMA)
    return _elapsed(database)


def _elapsed(database: PostgresDatabase) -> float:
    with database.transaction() as statements:
        row = statements.execute("SELECT elapsed FROM epoch_keeper").fetchone()
    return 0.0 if row is None else float(row[0])
