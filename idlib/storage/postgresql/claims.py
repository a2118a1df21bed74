"""Claims: of several receivers that get copies of a message, only the one that has claimed it may print it.

A claim ends in the transaction that remembers the message as printed. If the receiver ends before that, another one
takes over the claim once the lease has expired, and prints the message, perhaps again.
"""

from collections.abc import Callable, Sequence
from typing import Final

from idlib.storage.postgresql.connection import PostgresDatabase, Statements
from idlib.storage.postgresql.leases import is_live
from idlib.storage.postgresql.printed import remember, verdicts
from idlib.storage.postgresql.waiting import remove
from idlib.storage.values import Claim, Printed, Remembered, ReplayEntry

_VERSION: Final = 1
_SCHEMA: Final = """\
CREATE TABLE claim (
    sender text COLLATE "C" NOT NULL,
    identifier bytea NOT NULL,
    holder text NOT NULL,
    PRIMARY KEY (sender, identifier)
)
"""
# Sorted, because receivers that lock the same rows in another order would wait for each other. It also locks the claims
# of others.
_CLAIM: Final = """\
INSERT INTO claim SELECT asked.sender, asked.identifier, ? FROM unnest(?::text[], ?::bytea[])
    AS asked (sender, identifier) ORDER BY asked.sender COLLATE "C", asked.identifier
    ON CONFLICT (sender, identifier) DO UPDATE SET holder = excluded.holder WHERE claim.holder = excluded.holder
    RETURNING sender, identifier
"""
# A statement of its own: one that has waited for the lock does not see the receivers that have started since. S608: the
# statement is put together from constants alone.
_TAKE_OVER: Final = f"""\
UPDATE claim SET holder = ? FROM unnest(?::text[], ?::bytea[]) AS asked (sender, identifier)
    WHERE claim.sender = asked.sender AND claim.identifier = asked.identifier AND NOT {is_live("claim.holder")}
    RETURNING claim.sender, claim.identifier
"""  # noqa: S608
_END: Final = """\
WITH ended AS MATERIALIZED (
    SELECT claim.sender, claim.identifier FROM claim
    JOIN unnest(?::text[], ?::bytea[]) AS asked (sender, identifier)
        ON claim.sender = asked.sender AND claim.identifier = asked.identifier
    ORDER BY claim.sender, claim.identifier FOR UPDATE OF claim
) DELETE FROM claim USING ended WHERE claim.sender = ended.sender AND claim.identifier = ended.identifier
    RETURNING claim.sender, claim.identifier, claim.holder
"""
_END_ABANDONED: Final = f"""\
WITH ended AS MATERIALIZED (
    SELECT sender, identifier FROM claim WHERE NOT {is_live("claim.holder")} FOR UPDATE SKIP LOCKED
) DELETE FROM claim USING ended WHERE claim.sender = ended.sender AND claim.identifier = ended.identifier
"""  # noqa: S608


class PostgresPrinting:
    """A `PrintingStore` for one of several receivers. One thread uses it.

    Args:
        database: The database; the tables of the leases, the replay memory and the deferred messages must be prepared.
        holder: The receiver's name among the holders of leases.
        term: Returns the number of the receiver's present lease, or None while it has no valid one.
        may_take_over: Returns whether claims of receivers whose leases have expired may be taken over.

    Raises:
        StoreError: The database cannot be used, or a newer version has created the table.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        holder: str,
        term: Callable[[], int | None],
        may_take_over: Callable[[], bool],
    ) -> None:
        database.prepare("claims", _VERSION, _SCHEMA)
        self._database = database
        self._holder = holder
        self._term = term
        self._may_take_over = may_take_over
        # In which lease the messages that are being printed were claimed.
        self._claimed: dict[ReplayEntry, int] = {}
        if may_take_over():
            with database.transaction() as statements:
                # Of messages that a receiver printed before it was killed, and that never come again.
                statements.execute(_END_ABANDONED)

    def verdict(self, entry: ReplayEntry) -> Remembered:  # noqa: ARG002  # other engines look it up
        """Return NEW: `claim` looks up a whole group of messages at once.

        Args:
            entry: What identifies the message.
        """
        return Remembered.NEW

    def claim(self, entries: Sequence[ReplayEntry]) -> tuple[Claim, ...]:
        """Claim messages, so that no other receiver prints them, and return the result for each.

        Args:
            entries: What identifies the messages, each different.
        """
        # Before the claim: what was claimed in an earlier lease may belong to another receiver when this returns.
        term = self._term()
        if term is None:
            return (Claim.HELD,) * len(entries)
        with self._database.transaction() as statements:
            # Before the claim, so that copies of printed messages cost no durable write.
            results = dict(zip(entries, map(_result, verdicts(statements, entries)), strict=True))
            unprinted = [entry for entry, result in results.items() if result is Claim.CLAIMED]
            if unprinted:
                results |= self._claim(statements, unprinted)
        for entry, result in results.items():
            if result is Claim.CLAIMED:
                self._claimed[entry] = term
            else:
                self._claimed.pop(entry, None)
        return tuple(results[entry] for entry in entries)

    def may_print(self, entry: ReplayEntry) -> bool:
        """Return whether the claim of a message still holds: the lease has been valid ever since.

        Args:
            entry: What identifies the message; it was claimed.
        """
        term = self._term()
        return term is not None and self._claimed.get(entry) == term

    def finish(self, printed: Sequence[Printed], removed: Sequence[int], now: int) -> None:
        """Remember printed messages, end their claims and remove deferred messages, in one transaction.

        Args:
            printed: The messages, in the order in which they were printed.
            removed: Numbers of deferred messages that are finished; unknown numbers are ignored.
            now: Seconds since the epoch.
        """
        entries = [one.entry for one in printed]
        with self._database.transaction() as statements:
            if printed:
                remember(statements, self._unremembered(statements, printed), now)
            if removed:
                remove(statements, removed)
        for entry in entries:
            self._claimed.pop(entry, None)

    def _claim(self, statements: Statements, entries: Sequence[ReplayEntry]) -> dict[ReplayEntry, Claim]:
        claimed = set(statements.execute(_CLAIM, (self._holder, *_columns(entries))).fetchall())
        others = [entry for entry in entries if (entry.sender, entry.identifier) not in claimed]
        if others and self._may_take_over():
            claimed |= set(statements.execute(_TAKE_OVER, (self._holder, *_columns(others))).fetchall())
        ours = [entry for entry in entries if (entry.sender, entry.identifier) in claimed]
        # Again after the claim: only now can no other receiver print the messages any more.
        results = dict(zip(ours, map(_result, verdicts(statements, ours)), strict=True))
        refused = [entry for entry, result in results.items() if result is Claim.PRINTED]
        if refused:
            _end(statements, refused)
        return dict.fromkeys(entries, Claim.HELD) | results

    def _unremembered(self, statements: Statements, printed: Sequence[Printed]) -> list[Printed]:
        """End the claims of messages, and return the messages that are not remembered yet."""
        # If another receiver has taken over a claim, it ends, too: that receiver then knows that it has to look.
        ended = _end(statements, [one.entry for one in printed])
        if all((one.entry.sender, one.entry.identifier, self._holder) in ended for one in printed):
            return list(printed)
        # The first attempt was committed, or another receiver has taken over claims.
        found = verdicts(statements, [one.entry for one in printed])
        return [one for one, verdict in zip(printed, found, strict=True) if verdict is not Remembered.PRINTED]


def _end(statements: Statements, entries: Sequence[ReplayEntry]) -> set[tuple[str, bytes, str]]:
    return set(statements.execute(_END, _columns(entries)).fetchall())


def _result(verdict: Remembered) -> Claim:
    return Claim.CLAIMED if verdict is Remembered.NEW else Claim.PRINTED


def _columns(entries: Sequence[ReplayEntry]) -> tuple[list[str], list[bytes]]:
    return [entry.sender for entry in entries], [entry.identifier for entry in entries]
