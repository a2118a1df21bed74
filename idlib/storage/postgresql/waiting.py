"""The deferred messages in the database, shared by the receivers of a group.

`waiting_sender` says which receiver handles a sender's messages, so that they are printed in order. A message has a
holder once that receiver has it in its index. A receiver that stores a message from a sender that another one handles
leaves it without a holder, and that receiver adopts it. If a receiver ends, the others take over its senders: their
messages lose their holder, and are then adopted in the same way.

The database does not overwrite a removed text: it stays in the table's file until a vacuum frees its space and that is
used again, and in the write-ahead log, in replicas and in backups for as long as these are kept.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from idlib.storage.postgresql.connection import PostgresDatabase, Statements, UnknownOutcomeError
from idlib.storage.postgresql.leases import Takeovers, is_live
from idlib.storage.postgresql.unadopted import SIZES, RoomForOthers, drop_abandoned
from idlib.storage.values import Abandoned, Admission, Dropped, WaitingEntry, WaitingLimits, WaitingMessage
from idlib.storage.waiting_columns import HEADER, columns_of, header_of
from idlib.system.clock import boot_time

_VERSION: Final = 1
# Dead rows have texts, so the next run of autovacuum removes them, however few they are.
_SCHEMA: Final = """\
CREATE SEQUENCE waiting_number AS bigint;
CREATE TABLE waiting_sender (
    sender text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" NOT NULL
);
CREATE INDEX waiting_sender_by_holder ON waiting_sender (holder, sender);
CREATE TABLE waiting (
    number bigint PRIMARY KEY,
    sender text COLLATE "C" NOT NULL,
    digest bytea NOT NULL UNIQUE,
    identifier bytea NOT NULL,
    issued_at bigint,
    received_at double precision NOT NULL,
    deferred_at double precision NOT NULL,
    is_asked_again boolean NOT NULL,
    is_reserved boolean NOT NULL,
    is_sealed_to_epoch boolean NOT NULL,
    holder text COLLATE "C",
    adoption bigint NOT NULL DEFAULT 0,
    signed bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 1
);
CREATE INDEX waiting_by_holder ON waiting (holder, number);
CREATE INDEX waiting_by_sender ON waiting (sender, holder)
"""
_COLUMNS: Final = ", ".join(f"waiting.{name}" for name in HEADER)
_READ_AT_ONCE: Final = 500
# Strangers can make up 20 000 names for each receiver, and those of trusted names are among them.
_SENDERS_AT_ONCE: Final = 1000
_TIDYING_SECONDS: Final = 60.0
_FORGOTTEN_AT_ONCE: Final = 1000
# A flood can leave more than a thousand senders a second.
_FORGETTING_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.001
ABANDONED_SECONDS: Final = 60.0

# All S608 below: the statements are put together from constants of our modules alone.
_ADD_SENDERS: Final = """\
INSERT INTO waiting_sender SELECT added.name, ? FROM unnest(?::text[]) AS added (name) ORDER BY added.name
    ON CONFLICT (sender) DO UPDATE SET holder = waiting_sender.holder
    RETURNING sender, holder
"""
_ADD: Final = f"""\
INSERT INTO waiting ({", ".join(HEADER)}, is_sealed_to_epoch, holder, signed)
    VALUES ({", ".join("?" * (len(HEADER) + 3))}) ON CONFLICT DO NOTHING
"""  # noqa: S608
_ADOPT: Final = f"""\
UPDATE waiting SET holder = ?, adoption = ? WHERE number IN (
    SELECT number FROM waiting JOIN waiting_sender USING (sender)
    WHERE waiting.holder IS NULL AND waiting_sender.holder = ?
    ORDER BY number LIMIT {_READ_AT_ONCE} FOR UPDATE OF waiting SKIP LOCKED
) RETURNING {_COLUMNS}, octet_length(signed)
"""  # noqa: S608


def _locked(condition: str) -> str:
    """Return SQL that finds rows and locks them in the order of their numbers.

    Receivers that lock the same rows in another order would wait for each other.
    """
    return f"number IN (SELECT number FROM waiting WHERE {condition} ORDER BY number FOR UPDATE)"  # noqa: S608


_REMOVE: Final = f"DELETE FROM waiting WHERE {_locked('number = ANY(?::bigint[])')}"  # noqa: S608
_REMOVE_OURS: Final = f"DELETE FROM waiting WHERE {_locked('number = ANY(?::bigint[]) AND holder = ?')}"  # noqa: S608
_LET_GO: Final = f"UPDATE waiting SET holder = NULL WHERE {_locked('sender = ANY(?::text[])')}"  # noqa: S608
_LIMIT_DEFERRAL: Final = f"UPDATE waiting SET deferred_at = ? WHERE {_locked('deferred_at > ?')}"  # noqa: S608
# Finds each holder in the index by one step, instead of reading all senders.
_GONE: Final = f"""\
WITH RECURSIVE one (holder) AS (
    (SELECT holder FROM waiting_sender ORDER BY holder LIMIT 1)
    UNION ALL
    SELECT (SELECT next.holder FROM waiting_sender AS next WHERE next.holder > one.holder ORDER BY holder LIMIT 1)
    FROM one WHERE one.holder IS NOT NULL
) SELECT holder FROM one WHERE holder IS NOT NULL AND holder <> ? AND NOT {is_live("one.holder")}
"""  # noqa: S608
_ABANDONED: Final = f"""\
SELECT sender, {SIZES} FROM waiting WHERE sender = ANY(?::text[]) GROUP BY sender ORDER BY sender
"""  # noqa: S608


class PostgresWaiting:
    """The deferred messages, as one receiver of a group uses them: a `WaitingStore`.

    Args:
        database: The database; the leases must be prepared.
        holder: The receiver's name among the holders of leases.
        limits: The limits on messages that no live receiver has in its index.
        clock: Returns seconds by a clock that never jumps.

    Raises:
        StoreError: The database cannot be used, or a newer version has created the tables.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        holder: str,
        limits: WaitingLimits,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._database = database
        self._holder = holder
        self._limits = limits
        # Identifies a call of `adopt` and its repetitions.
        self._adoption = 1
        self._is_adoption_unsure = False
        # The last sender that was offered for taking over, so that each gets its turn.
        self._offered = ""
        self._clock = clock
        self._takeovers = Takeovers(clock)
        self._tidied_at = clock()
        # Since when other receivers have been seen to have ended.
        self._gone_since: dict[str, float] = {}
        database.prepare("deferred messages", _VERSION, _SCHEMA)

    def note_outage(self) -> None:
        """Note that the database was away until the receiver was started."""
        self._takeovers.note_outage()

    @property
    def is_shared(self) -> bool:
        """True: other receivers use the database, too."""
        return True

    def new_numbers(self, count: int) -> Sequence[int]:
        """Return numbers for messages to be added, in ascending order and higher than all those in use.

        Args:
            count: How many.
        """
        with self._database.transaction() as statements:
            # A transaction with a number is on the disk when it is committed: a number that is only in the server's
            # memory would be given to another message after a crash.
            statements.execute("SELECT pg_current_xact_id()")
            rows = statements.execute("SELECT nextval('waiting_number') FROM generate_series(1, ?::integer)", (count,))
            return sorted(number for (number,) in rows)

    def index(self) -> Iterator[WaitingEntry]:
        """Yield every message of ours without its text, ordered by number; keep only a few in memory."""
        last = 0
        while entries := self._entries_after(last):
            yield from entries
            last = entries[-1].number

    def _entries_after(self, number: int) -> list[WaitingEntry]:
        with self._database.transaction() as statements:
            rows = statements.execute(
                f"SELECT {_COLUMNS}, octet_length(signed) FROM waiting"  # noqa: S608
                " WHERE holder = ? AND number > ? ORDER BY number LIMIT ?",
                (self._holder, number, _READ_AT_ONCE),
            ).fetchall()
        return [_entry(row) for row in rows]

    def read(self, numbers: Sequence[int]) -> tuple[WaitingMessage, ...]:
        """Return our messages with these numbers, in the order of the numbers given; skip others.

        Args:
            numbers: The numbers.
        """
        with self._database.transaction() as statements:
            rows = statements.execute(
                f"SELECT {_COLUMNS}, is_sealed_to_epoch, signed FROM waiting"  # noqa: S608
                " WHERE number = ANY(?::bigint[]) AND holder = ?",
                (list(numbers), self._holder),
            ).fetchall()
        found = {row[0]: _message(row) for row in rows}
        return tuple(found[number] for number in numbers if number in found)

    def change(self, added: Sequence[WaitingMessage], removed: Iterable[int]) -> tuple[Admission, ...]:
        """Add and remove deferred messages in one transaction, which is durable when this returns.

        Args:
            added: Messages with numbers from `new_numbers`.
            removed: Numbers of messages of ours to remove; others are ignored.

        Returns:
            What became of each message to be added.
        """
        with self._database.transaction() as statements:
            # Senders are locked before messages, and both in order: otherwise receivers could wait for each other.
            ours = self._prepare_senders(statements, {one.sender for one in added}) if added else {}
            if gone := sorted(removed):
                statements.execute(_REMOVE_OURS, (gone, self._holder))
            if not added:
                return ()
            fitting, without_room = self._split_by_room(statements, added, ours)
            statements.executemany(
                _ADD,
                (
                    _row(one, self._holder if ours.get(one.sender) else None)
                    for one in sorted(fitting, key=lambda one: one.digest)
                ),
            )
            rows = statements.execute(
                "SELECT number, holder FROM waiting WHERE number = ANY(?::bigint[])", ([one.number for one in added],)
            ).fetchall()
        admissions = {one.number: Admission.NO_ROOM for one in without_room}
        admissions |= {
            number: Admission.OURS if holder == self._holder else Admission.TO_BE_ADOPTED for number, holder in rows
        }
        return tuple(admissions.get(one.number, Admission.COPY) for one in added)

    def _split_by_room(
        self, statements: Statements, added: Sequence[WaitingMessage], ours: Collection[str]
    ) -> tuple[list[WaitingMessage], list[WaitingMessage]]:
        """Return the messages that may be stored, and those for other receivers that do not fit."""
        if all(one.sender in ours for one in added):
            return list(added), []
        room = RoomForOthers(statements, self._holder, self._limits)
        fitting: list[WaitingMessage] = []
        without_room: list[WaitingMessage] = []
        for one in added:
            (fitting if one.sender in ours or room.take(one) else without_room).append(one)
        return fitting, without_room

    def _prepare_senders(self, statements: Statements, names: Collection[str]) -> dict[str, bool]:
        """Have a receiver for each sender; return our senders, and whether we need not adopt messages of them first."""
        holders = dict(statements.execute(_ADD_SENDERS, (self._holder, sorted(names))).fetchall())
        # In a statement of its own: the one that waited for the lock does not see receivers that have started since.
        gone = self._gone(statements, {*holders.values()} - {self._holder})
        self._take(statements, [sender for sender, holder in holders.items() if holder in gone])
        ours = [sender for sender, holder in holders.items() if holder == self._holder]
        # A message must not overtake those of its sender that are still to be adopted.
        unadopted = statements.execute(
            "SELECT DISTINCT sender FROM waiting WHERE sender = ANY(?::text[]) AND holder IS NULL", (ours,)
        )
        return dict.fromkeys(ours, True) | {sender: False for (sender,) in unadopted}

    def _gone(self, statements: Statements, holders: Collection[str]) -> set[str]:
        """Return those of some holders whose messages may be taken over."""
        if not holders or not self._takeovers.may_begin:
            return set()
        rows = statements.execute(
            f"SELECT one.holder FROM unnest(?::text[]) AS one (holder) WHERE NOT {is_live('one.holder')}",  # noqa: S608
            (list(holders),),
        )
        return {holder for (holder,) in rows}

    def _all_gone(self, statements: Statements) -> list[str]:
        """Return all holders whose messages may be taken over."""
        if not self._takeovers.may_begin:
            return []
        return [holder for (holder,) in statements.execute(_GONE, (self._holder,))]

    def adopt(self, choose: Callable[[Sequence[Abandoned]], Collection[str]]) -> tuple[WaitingEntry, ...]:
        """Take over messages, and return them ordered by number.

        Args:
            choose: Called with senders whose receiver has ended; returns those to take over. The others stay as they
                are.
        """
        try:
            with self._database.transaction() as statements:
                rows = self._adopted(statements)
                if not rows:
                    self._take_over(statements, choose)
                    rows = statements.execute(_ADOPT, (self._holder, self._adoption, self._holder)).fetchall()
        except UnknownOutcomeError:
            self._is_adoption_unsure = True
            raise
        self._takeovers.note_answer()
        self._adoption += 1
        self._is_adoption_unsure = False
        return tuple(_entry(row) for row in sorted(rows))

    def _adopted(self, statements: Statements) -> list[tuple[Any, ...]]:
        """Return what the last call has adopted, if it did not learn that it was committed."""
        if not self._is_adoption_unsure:
            return []
        return statements.execute(
            f"SELECT {_COLUMNS}, octet_length(signed) FROM waiting WHERE holder = ? AND adoption = ?",  # noqa: S608
            (self._holder, self._adoption),
        ).fetchall()

    def _take_over(self, statements: Statements, choose: Callable[[Sequence[Abandoned]], Collection[str]]) -> None:
        gone = self._all_gone(statements)
        if not gone:
            return
        senders = [
            sender
            for (sender,) in statements.execute(
                "SELECT sender FROM waiting_sender WHERE holder = ANY(?::text[]) AND sender > ?"
                " ORDER BY sender LIMIT ? FOR UPDATE SKIP LOCKED",
                (gone, self._offered, _SENDERS_AT_ONCE),
            )
        ]
        self._offered = senders[-1] if len(senders) == _SENDERS_AT_ONCE else ""
        abandoned = [Abandoned(*row) for row in statements.execute(_ABANDONED, (senders,))]
        without_messages = set(senders) - {one.sender for one in abandoned}
        statements.execute("DELETE FROM waiting_sender WHERE sender = ANY(?::text[])", (list(without_messages),))
        if abandoned:
            self._take(statements, choose(abandoned))

    def _take(self, statements: Statements, senders: Collection[str]) -> None:
        if senders:
            statements.execute(
                "UPDATE waiting_sender SET holder = ? WHERE sender = ANY(?::text[])", (self._holder, list(senders))
            )
            # The receiver may still run and remove messages.
            statements.execute(_LET_GO, (list(senders),))

    def drop_abandoned(self, elapsed: float) -> tuple[Dropped, ...]:
        """Drop messages whose receiver ended some time ago, and which no receiver has taken over; return them.

        Args:
            elapsed: The present time by the clock of `WaitingMessage.deferred_at`, in seconds.
        """
        with self._database.transaction() as statements:
            now = self._clock()
            self._gone_since = {one: self._gone_since.get(one, now) for one in self._all_gone(statements)}
            # Until then, receivers that have room take the messages over.
            abandoned = [one for one, since in self._gone_since.items() if now - since >= ABANDONED_SECONDS]
            return drop_abandoned(statements, abandoned, elapsed, self._limits) if abandoned else ()

    def limit_deferral(self, elapsed: float) -> None:
        """Set the start of deferral to now for messages whose start is in the future.

        Args:
            elapsed: The present time by the clock of `WaitingMessage.deferred_at`, in seconds.
        """
        with self._database.transaction() as statements:
            statements.execute(_LIMIT_DEFERRAL, (elapsed, elapsed))

    def wipe(self) -> None:
        """Forget senders without messages, at most once a minute; the database frees the space of texts by itself.

        If there are too many of them, the next call continues.
        """
        if self._clock() - self._tidied_at < _TIDYING_SECONDS:
            return
        end = self._clock() + _FORGETTING_SECONDS
        while self._forget_senders() == _FORGOTTEN_AT_ONCE:
            if self._clock() >= end:
                return
            # The connection's lock is not fair: without a pause, other threads might not get it.
            time.sleep(_PAUSE_SECONDS)
        self._tidied_at = self._clock()

    def _forget_senders(self) -> int:
        """Forget some senders without messages, and return how many were found."""
        with self._database.transaction() as statements:
            rows = statements.execute(
                "SELECT sender FROM waiting_sender WHERE holder = ?"
                " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.sender = waiting_sender.sender)"
                " ORDER BY sender LIMIT ? FOR UPDATE SKIP LOCKED",
                (self._holder, _FORGOTTEN_AT_ONCE),
            ).fetchall()
            # Another receiver may have added a message before the row was locked; only a new statement sees it.
            statements.execute(
                "DELETE FROM waiting_sender WHERE sender = ANY(?::text[])"
                " AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.sender = waiting_sender.sender)",
                ([sender for (sender,) in rows],),
            )
        return len(rows)


def remove(statements: Statements, numbers: Iterable[int]) -> None:
    """Remove deferred messages that are finished, whichever receiver handles them.

    Args:
        statements: The transaction.
        numbers: Their numbers; unknown numbers are ignored.
    """
    if gone := sorted(numbers):
        statements.execute(_REMOVE, (gone,))


def _entry(row: Sequence[Any]) -> WaitingEntry:
    return WaitingEntry(**header_of(row), size=row[-1])


def _message(row: Sequence[Any]) -> WaitingMessage:
    *_, is_sealed_to_epoch, signed = row
    return WaitingMessage(**header_of(row), is_sealed_to_epoch=is_sealed_to_epoch, signed=signed.decode())


def _row(message: WaitingMessage, holder: str | None) -> tuple[object, ...]:
    return (*columns_of(message), message.is_sealed_to_epoch, holder, message.signed.encode())
