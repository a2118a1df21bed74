"""Forgets entries of the replay memory in small portions: first expired entries, then those that exceed a limit.

Each step does one portion in the caller's transaction and returns what it did, or None if there was nothing to do. The
transaction that deletes the first entry below a watermark also raises it, so that no crash can come in between.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from idlib.storage import rules
from idlib.storage.salvage import check_ascending
from idlib.storage.sender_rows import DAY, POOL, WEEK, MiscountError, SenderRows, Tally, slots_of
from idlib.storage.sql import Transaction
from idlib.storage.values import Tidied

_DONE: Final = Tidied(more=True)
# Forget 1/64 of the limit more than necessary, so that the entries need not be counted again for each message.
_SLACK: Final = 64
_MINUTE: Final = 60
_ANY_TIME: Final = 1 << 62
_AGAIN_SECONDS: Final = 60
# In the time in which one entry is forgotten, more can be counted, and less than one row of a name can be changed.
_COUNTED_AT_ONCE: Final = 4
_ENTRIES_OF_A_ROW: Final = 16


@dataclass(slots=True)
class _Trim:
    """The oldest entries of one owner, to be forgotten; they are counted first to find out which these are.

    Args:
        owner: The number of the sender, or POOL.
        wanted: How many entries to forget.
        limit: The latest `iat` that may be forgotten.
        days: The days that may have such entries, in descending order; the last one is worked on next.
        counted: How many entries the days counted so far have.
        minutes: How many entries each minute of the present day has, as far as the day has been counted.
        after: The last identifier of the present day that was processed.
        threshold: The latest `iat` to forget; None until it is known.
    """

    owner: int
    wanted: int
    limit: int
    days: list[int]
    counted: int = 0
    minutes: Counter[int] = field(default_factory=Counter)
    after: bytes = b""
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class _Portion:
    """Some entries of a day or week, to be forgotten together.

    Args:
        condition: The SQL condition that selects them.
        values: The values for its placeholders.
        is_last: Whether no other entries are left.
    """

    condition: str
    values: tuple[object, ...]
    is_last: bool


class Forgetting:
    """Decides what to forget next, and forgets it.

    Args:
        senders: What is held in memory about the tables.
        locking: SQL that ends a query of names, so that it locks them; needed if other receivers change them.
        exclude: Makes other receivers add no entries until the transaction ends, and returns whether that was possible
            at once; None if there are no others.
    """

    def __init__(
        self, senders: SenderRows, locking: str = "", exclude: Callable[[Transaction], bool] | None = None
    ) -> None:
        self._senders = senders
        self._locking = locking
        self._exclude = exclude
        self._trim: _Trim | None = None
        # Owners whose entries are all too new to be forgotten, and when to check them again.
        self._too_new: dict[int, int] = {}

    def portion(self, transaction: Transaction, now: int, limit: int) -> Tidied:
        """Do the next portion.

        Args:
            transaction: Runs the statements.
            now: Seconds since the epoch.
            limit: How many entries may be forgotten; counting them and changing rows is limited to about the same time.
        """
        for step in (
            self._count,
            self._prune_bound,
            self._prune_unbound,
            self._continue_trim,
            self._start_trim,
            self._trim_unbound,
            self._drop_watermarks,
            self._drop_names,
            self._demote,
        ):
            done = step(transaction, now, limit)
            if done is not None:
                return done
        return Tidied(more=False)

    def _count(self, transaction: Transaction, _: int, limit: int) -> Tidied | None:
        for tally in (self._senders.bound, self._senders.unbound):
            if tally.counted_to is not None:
                tally.count(transaction, _COUNTED_AT_ONCE * limit)
                return _DONE
        return None

    def _prune_bound(self, transaction: Transaction, now: int, limit: int) -> Tidied | None:
        day = min(self._senders.bound.slots, default=None)
        if day is None or (day + 1) * DAY + rules.REPLAY_SECONDS > now:
            return None
        portion = _first_entries(transaction, "bound", day, limit)
        (second,) = transaction.execute(
            f"SELECT max(second) FROM bound WHERE {portion.condition}",  # noqa: S608  # of ours alone
            portion.values,
        ).fetchone()
        if second is not None:
            # If the clock is set back later, these messages must not look new, but messages issued after them must.
            self._senders.raise_floor(transaction, day * DAY + second)
        _delete(transaction, self._senders.bound, day, portion)
        return _DONE

    def _prune_unbound(self, transaction: Transaction, now: int, limit: int) -> Tidied | None:
        week = min(self._senders.unbound.slots, default=None)
        if week is None or (week + 1) * WEEK + rules.UNBOUND_MEMORY_SECONDS > now:
            return None
        _delete(transaction, self._senders.unbound, week, _first_entries(transaction, "unbound", week, limit))
        return _DONE

    def _start_trim(self, _: Transaction, now: int, __: int) -> Tidied | None:
        amounts = self._senders.bound.amounts
        self._too_new = {owner: until for owner, until in self._too_new.items() if now < until <= now + _AGAIN_SECONDS}
        apart = [
            (number, owner)
            for (_slot, owner), number in amounts.items()
            if owner != POOL and owner not in self._too_new
        ]
        most, largest = max(apart, default=(0, POOL))
        pool = 0 if POOL in self._too_new else amounts[0, POOL]
        excess = self._senders.bound.total() - rules.MAX_REMEMBERED
        if most > rules.MAX_REMEMBERED_OF_A_NAME:
            owner, wanted, bound = largest, most - rules.MAX_REMEMBERED_OF_A_NAME, rules.MAX_REMEMBERED_OF_A_NAME
        elif pool > rules.MAX_REMEMBERED_OF_UNPROVEN:
            owner, wanted, bound = POOL, pool - rules.MAX_REMEMBERED_OF_UNPROVEN, rules.MAX_REMEMBERED_OF_UNPROVEN
        elif excess > 0 and pool:
            owner, wanted, bound = POOL, excess, rules.MAX_REMEMBERED
        elif excess > 0 and most:
            owner, wanted, bound = largest, excess, rules.MAX_REMEMBERED
        else:
            return None
        latest = now - rules.MIN_REMEMBERED_SECONDS
        days = sorted((day for day in self._senders.bound.slots if day * DAY <= latest), reverse=True)
        self._trim = _Trim(owner, wanted + bound // _SLACK, latest, days)
        return _DONE

    def _continue_trim(self, transaction: Transaction, now: int, limit: int) -> Tidied | None:
        trim = self._trim
        if trim is None:
            return None
        if trim.threshold is not None:
            return self._delete_below(transaction, trim, trim.threshold, limit)
        if trim.days:
            self._find_threshold(transaction, trim, limit)
        elif trim.counted:
            # Fewer entries may be forgotten than wanted: forget all of these.
            self._set_threshold(trim, trim.limit)
        else:
            self._too_new[trim.owner] = now + _AGAIN_SECONDS
            self._trim = None
        return _DONE

    def _find_threshold(self, transaction: Transaction, trim: _Trim, limit: int) -> None:
        day = trim.days[-1]
        rows = transaction.execute(
            "SELECT identifier, second FROM bound WHERE slot = ? AND owner = ? AND identifier > ?"
            " ORDER BY identifier LIMIT ?",
            (day, trim.owner, trim.after, limit),
        ).fetchall()
        check_ascending((identifier for identifier, _ in rows), trim.after)
        latest = trim.limit - day * DAY
        trim.minutes.update(second // _MINUTE for _, second in rows if second <= latest)
        if len(rows) == limit:
            trim.after = rows[-1][0]
            return
        so_far = trim.counted
        for minute in sorted(trim.minutes):
            so_far += trim.minutes[minute]
            if so_far >= trim.wanted:
                self._set_threshold(trim, min(trim.limit, day * DAY + (minute + 1) * _MINUTE - 1))
                return
        trim.counted = so_far
        trim.minutes.clear()
        trim.after = b""
        trim.days.pop()

    def _set_threshold(self, trim: _Trim, threshold: int) -> None:
        trim.threshold = threshold
        trim.days = sorted((day for day in self._senders.bound.slots if day * DAY <= threshold), reverse=True)
        trim.after = b""
        if not trim.days:
            # The entries have expired in the meantime.
            self._trim = None

    def _delete_below(self, transaction: Transaction, trim: _Trim, threshold: int, limit: int) -> Tidied:
        raised = self._raise_watermark(transaction, trim.owner, threshold)
        day = trim.days[-1]
        where = "slot = ? AND owner = ? AND identifier > ?"
        last = transaction.execute(
            f"SELECT identifier FROM bound WHERE {where} ORDER BY identifier LIMIT 1 OFFSET ?",  # noqa: S608
            (day, trim.owner, trim.after, limit - 1),
        ).fetchone()
        if last is not None:
            check_ascending(last, trim.after)
        until = "" if last is None else " AND identifier <= ?"
        deleted = transaction.execute(
            f"DELETE FROM bound WHERE {where}{until} AND second <= ?",  # noqa: S608  # of ours alone
            (day, trim.owner, trim.after, *(last or ()), threshold - day * DAY),
        ).rowcount
        if deleted:
            self._senders.bound.take(day, trim.owner, deleted)
        if last is None:
            trim.after = b""
            trim.days.pop()
        else:
            trim.after = last[0]
        if not trim.days:
            self._trim = None
        return raised

    def _raise_watermark(self, transaction: Transaction, owner: int, issued_at: int) -> Tidied:
        if owner == POOL:
            was = self._senders.pool_watermark
            self._senders.raise_pool_watermark(transaction, issued_at)
            return Tidied(more=True, pool_raised=self._senders.pool_watermark > was)
        raised = transaction.execute(
            "UPDATE sender SET watermark = ? WHERE id = ? AND watermark < ? RETURNING name",
            (issued_at, owner, issued_at),
        ).fetchall()
        for (name,) in raised:
            self._senders.forget_cached(name)
        return Tidied(more=True, raised=tuple(name for (name,) in raised))

    def _trim_unbound(self, transaction: Transaction, _: int, limit: int) -> Tidied | None:
        tally = self._senders.unbound
        excess = tally.total() - rules.MAX_REMEMBERED_UNBOUND
        if excess <= 0:
            return None
        week, owner = min(tally.amounts, key=lambda group: (group[1], group[0]))
        number = min(excess, limit)
        deleted = transaction.execute(
            "DELETE FROM unbound WHERE slot = ? AND owner = ? AND identifier IN"
            " (SELECT identifier FROM unbound WHERE slot = ? AND owner = ? ORDER BY identifier LIMIT ?)",
            (week, owner, week, owner, number),
        ).rowcount
        if not deleted:
            raise MiscountError("counted unbound entries cannot be found")
        tally.take(week, owner, deleted)
        return Tidied(more=True, forgotten_unbound_early=deleted)

    def _drop_watermarks(self, transaction: Transaction, now: int, limit: int) -> Tidied | None:
        limit = _rows_in_time_of(limit)
        # If the index is damaged, it may list rows whose watermarks are already dropped.
        dropped = transaction.execute(
            "WITH chosen AS MATERIALIZED"  # noqa: S608  # of ours alone
            f" (SELECT id FROM sender WHERE watermark >= 0 AND watermark < ? LIMIT ?{self._locking})"
            " UPDATE sender SET watermark = ? WHERE +watermark >= 0 AND id IN (SELECT id FROM chosen) RETURNING name",
            (now - rules.REPLAY_SECONDS, limit, rules.NOTHING_FORGOTTEN),
        ).fetchall()
        for (name,) in dropped:
            self._senders.forget_cached(name)
        return _DONE if dropped else None

    def _drop_names(self, transaction: Transaction, now: int, limit: int) -> Tidied | None:
        limit = _rows_in_time_of(limit)
        pooled = "apart_since IS NULL"
        if self._drop(transaction, pooled, now - rules.UNPROVEN_MEMORY_SECONDS, limit):
            return _DONE
        excess = self._senders.pooled_names - rules.MAX_UNPROVEN_NAMES
        if excess > 0 and self._drop(transaction, pooled, _ANY_TIME, min(excess, limit)):
            return _DONE
        apart = "apart_since IS NOT NULL"
        return _DONE if self._drop(transaction, apart, now - rules.PROVEN_MEMORY_SECONDS, limit) else None

    def _drop(self, transaction: Transaction, which: str, before: int, limit: int) -> int:
        dropped = transaction.execute(
            f"WITH chosen AS MATERIALIZED (SELECT id FROM sender WHERE {which} AND last_printed_at < ?"  # noqa: S608
            f" ORDER BY last_printed_at LIMIT ?{self._locking}) DELETE FROM sender WHERE id IN (SELECT id FROM chosen)"
            " RETURNING name, zone, apart_since, last_printed_at, watermark",
            (before, limit),
        ).fetchall()
        for name, zone, apart_since, last_printed_at, watermark in dropped:
            self._senders.dropped(name, zone, apart_since)
            until = rules.latest_print(last_printed_at) + rules.MAX_CLOCK_LEAD_SECONDS
            self._senders.raise_dropped_until(transaction, until)
            self._senders.raise_pool_watermark(transaction, watermark)
        return len(dropped)

    def _demote(self, transaction: Transaction, now: int, limit: int) -> Tidied | None:
        """Move entries of a name back into the pool, if too many names are remembered separately."""
        zones = self._senders.apart_names
        excess = zones.total() - rules.MAX_PROVEN_NAMES
        if excess <= 0:
            return None
        (zone, count), *others = zones.most_common(2)
        # Continue only until another zone has the most names.
        ahead = max(1, count - others[0][1]) if others else count
        names = transaction.execute(
            "SELECT id, name, last_printed_at FROM sender WHERE apart_since IS NOT NULL AND zone = ?"  # noqa: S608
            f" ORDER BY last_printed_at LIMIT ?{self._locking}",
            (zone, min(excess, limit, ahead)),
        ).fetchall()
        if not names:
            raise MiscountError(f"counted names of the zone {zone} cannot be found")
        left = limit
        for number, name, last_printed_at in names:
            self._senders.forget_cached(name)
            left -= self._move_into_pool(transaction, number, left)
            if left > 0 and self._exclude is not None:
                # Another receiver may have added entries meanwhile; they would not be found once the name is dropped.
                left = left - self._move_into_pool(transaction, number, left) if self._exclude(transaction) else 0
            if left <= 0:
                # Until the rest has moved, messages of the name are looked up in both places.
                transaction.execute("UPDATE sender SET apart_since = ? WHERE id = ?", (now, number))
                break
            transaction.execute(
                "UPDATE sender SET apart_since = NULL, proven_at = NULL, printed = 0, last_printed_at = ? WHERE id = ?",
                (max(last_printed_at, min(last_printed_at + rules.LAST_PRINT_LAG_SECONDS, now)), number),
            )
            self._senders.demoted(zone)
            left -= _ENTRIES_OF_A_ROW
            if left <= 0 or self._exclude is not None:
                # The others are excluded until the transaction ends.
                break
        return _DONE

    def _move_into_pool(self, transaction: Transaction, number: int, limit: int) -> int:
        moved = 0
        # Other receivers may have added entries of a new day.
        days = self._senders.bound.slots if self._exclude is None else slots_of(transaction, "bound")
        for day in sorted(days):
            rows = transaction.execute(
                "DELETE FROM bound WHERE slot = ? AND owner = ? AND identifier IN"
                " (SELECT identifier FROM bound WHERE slot = ? AND owner = ? ORDER BY identifier LIMIT ?)"
                " RETURNING identifier, second",
                (day, number, day, number, limit - moved),
            ).fetchall()
            for identifier, second in rows:
                key = (day, POOL, identifier)
                if transaction.execute(
                    "INSERT INTO bound VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", (*key, second)
                ).rowcount:
                    self._senders.bound.add(key)
            if rows:
                self._senders.bound.take(day, number, len(rows))
            moved += len(rows)
            if moved == limit:
                break
        return moved


def _rows_in_time_of(entries: int) -> int:
    return max(1, entries // _ENTRIES_OF_A_ROW)


def _first_entries(transaction: Transaction, table: str, slot: int, limit: int) -> _Portion:
    """Return the first entries of a day or week."""
    end = transaction.execute(
        f"SELECT owner, identifier FROM {table} WHERE slot = ?"  # noqa: S608  # of ours alone
        " ORDER BY owner, identifier LIMIT 1 OFFSET ?",
        (slot, limit),
    ).fetchone()
    return _Portion(
        "slot = ?" + (" AND (owner, identifier) < (?, ?)" if end else ""), (slot, *(end or ())), end is None
    )


def _delete(transaction: Transaction, tally: Tally, slot: int, portion: _Portion) -> None:
    """Delete the first entries of a day or week, and drop it from the tally once it is empty."""
    table = tally.table
    for owner, number in transaction.execute(
        f"SELECT owner, count(*) FROM {table} WHERE {portion.condition} GROUP BY owner",  # noqa: S608
        portion.values,
    ).fetchall():
        tally.take(slot, owner, number)
    deleted = transaction.execute(f"DELETE FROM {table} WHERE {portion.condition}", portion.values).rowcount  # noqa: S608
    if portion.is_last:
        tally.slots.discard(slot)
    elif not deleted:
        raise MiscountError(f"counted entries of the table {table} cannot be found")
