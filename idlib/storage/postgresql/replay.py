"""The replay memory in the database, shared by the receivers of a group."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from idlib.storage.forgetting import Forgetting
from idlib.storage.postgresql import printed as printed_messages
from idlib.storage.postgresql.connection import ConflictError, PostgresDatabase, Statements
from idlib.storage.sender_rows import FLOOR, MiscountError, SenderRows, keep, lower_fact, raise_fact
from idlib.storage.values import Printed, Remembered, ReplayEntry, Standing, Tidied

_LOG = logging.getLogger(__name__)

_VERSION: Final = 1
_LATEST_TIME: Final = "latest_time"
_BOOT: Final = "boot"
_FORGETTING_ENDED_AT: Final = "forgetting_ended_at"
_TIDYING_LOCK: Final = 0x44414E49
# Counting four million entries takes some seconds of the server's time, and what they exceed a limit by in a few
# minutes is little.
PAUSE_SECONDS: Final = 300.0
# Each portion is a transaction and some round trips, and makes nobody wait.
PORTION: Final = 5000


@dataclass(slots=True)
class _Pass:
    """One pass over the tables.

    Args:
        server: The number of the server's process for the connection, which holds the lock.
        forgetting: Decides what to forget next.
    """

    server: int
    forgetting: Forgetting


class PostgresReplay:
    """A `ReplayStore` in the database.

    Args:
        database: The database.
        pause_seconds: How long after one pass that forgets entries, by any receiver, another may begin.
        portion: How many entries one transaction may forget.

    Raises:
        StoreError: The database cannot be used, or a newer version has created the tables.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        pause_seconds: float = PAUSE_SECONDS,
        portion: int = PORTION,
    ) -> None:
        database.prepare("replay memory", _VERSION, printed_messages.SCHEMA)
        self._database = database
        # A connection of its own, because it holds a lock for a pass, and others must not wait for a portion.
        self._tidier = database.another()
        self._pause_seconds = pause_seconds
        self._portion = portion
        self._pass: _Pass | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection that only forgetting uses."""
        self._tidier.close()

    @property
    def latest_time(self) -> int:
        """The recorded time, in seconds since the epoch; 0 if there is none."""
        return int(self.get_fact(_LATEST_TIME) or 0)

    @property
    def boot(self) -> str:
        """The boot of the system in which the clock was last known to be set; empty if none was stored."""
        return self.get_fact(_BOOT) or ""

    def fact(self, name: str, default: str) -> str:
        """Return the value stored under a name; if there is none, store the default first.

        Args:
            name: The name of the fact.
            default: The value to store if there is none.
        """
        with self._database.transaction() as statements:
            statements.execute("INSERT INTO fact VALUES (?, ?) ON CONFLICT DO NOTHING", (name, default))
            value = _fact(statements, name)
        return default if value is None else value

    def get_fact(self, name: str) -> str | None:
        """Return the value stored under a name, or None if there is none.

        Args:
            name: The name of the fact.
        """
        with self._database.separately() as statements:
            return _fact(statements, name)

    def set_fact(self, name: str, value: str) -> None:
        """Store a value under a name, replacing an earlier one; it is durable when this returns.

        Args:
            name: The name of the fact.
            value: The value.
        """
        with self._database.transaction() as statements:
            keep(statements, name, value)

    def note_time(self, now: int) -> None:
        """Record a time, unless a later one is recorded already.

        Args:
            now: Seconds since the epoch.
        """
        with self._database.transaction() as statements:
            raise_fact(statements, _LATEST_TIME, now)

    def reset_time(self, now: int) -> None:
        """Replace the recorded time, even if it is later.

        Args:
            now: Seconds since the epoch.
        """
        self.set_fact(_LATEST_TIME, str(now))

    def trust_clock_since(self, boot: str) -> None:
        """Store the boot of the system in which the clock is known to be set.

        Args:
            boot: The unique identifier of this boot.
        """
        self.set_fact(_BOOT, boot)

    def standing(self, name: str) -> Standing | None:
        """Return what is known about a name, or None if none of its messages is remembered.

        Args:
            name: The sender's name.
        """
        with self._database.separately() as statements:
            return printed_messages.standing(statements, name)

    def verdict(self, entry: ReplayEntry) -> Remembered:
        """Return whether a message was printed before.

        Args:
            entry: What identifies the message; its signature has verified, and its age was accepted.
        """
        with self._database.separately() as statements:
            return printed_messages.verdicts(statements, [entry])[0]

    def remember(self, printed: Sequence[Printed], now: int) -> None:
        """Remember printed messages in one transaction, which is durable when this returns.

        Args:
            printed: The messages, in the order in which they were printed.
            now: Seconds since the epoch.
        """
        with self._database.transaction() as statements:
            found = printed_messages.verdicts(statements, [one.entry for one in printed])
            # The write may be repeated although the first attempt was committed.
            new = [one for one, verdict in zip(printed, found, strict=True) if verdict is not Remembered.PRINTED]
            printed_messages.remember(statements, new, now)

    def tidy(self, now: int) -> Tidied:
        """Forget one portion of what has expired or exceeds a limit, unless another receiver does; nobody waits for it.

        Args:
            now: Seconds since the epoch, by a clock that is trusted.
        """
        done = Tidied(more=False)
        try:
            with self._tidier.transaction() as statements:
                self._pass = self._current_pass(statements, now)
                if self._pass is not None:
                    done = self._pass.forgetting.portion(statements, now, self._portion)
        except MiscountError as error:
            _LOG.debug("counting again: %s", error)
        except ConflictError as error:
            # Another receiver was changing the same rows, and one of the two had to give way.
            _LOG.debug("beginning again: %s", error)
            self._pass = None
            return Tidied(more=True)
        except BaseException:
            # What is held in memory may now be ahead of the tables.
            self._pass = None
            raise
        if self._pass is not None and not done.more:
            self._end_pass(now)
        return done

    def copy_log(self) -> None:
        """Do nothing: the database does its upkeep by itself."""

    def raise_floor(self, issued_at: int) -> None:
        """Treat every message issued at or before a time as one that may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch; a time before the stored one changes nothing.
        """
        with self._database.transaction() as statements:
            raise_fact(statements, FLOOR, issued_at)

    def lower_floor(self, issued_at: int) -> bool:
        """Accept messages issued after a time, even if they may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch.

        Returns:
            Whether such messages were refused.
        """
        with self._database.transaction() as statements:
            return lower_fact(statements, FLOOR, issued_at)

    def _current_pass(self, statements: Statements, now: int) -> _Pass | None:
        """Return the pass of this receiver; None if none is due, or another receiver is the one that forgets."""
        ((server,),) = statements.execute("SELECT pg_backend_pid()").fetchall()
        if self._pass is not None and self._pass.server == server:
            return self._pass
        # There is no pass, or the lock has ended with the connection.
        ended_at = int(_fact(statements, _FORGETTING_ENDED_AT) or 0)
        if ended_at <= now < ended_at + self._pause_seconds:
            return None
        ((is_ours,),) = statements.execute("SELECT pg_try_advisory_lock(?)", (_TIDYING_LOCK,)).fetchall()
        if not is_ours:
            return None
        # Names that another receiver is changing are left for the next pass, so that nobody waits.
        senders = SenderRows.read(statements)
        return _Pass(server, Forgetting(senders, " FOR UPDATE SKIP LOCKED", printed_messages.exclude_others))

    def _end_pass(self, now: int) -> None:
        self._pass = None
        with self._tidier.transaction() as statements:
            keep(statements, _FORGETTING_ENDED_AT, now)
        with self._tidier.separately() as statements:
            statements.execute("SELECT pg_advisory_unlock_all()")


def _fact(statements: Statements, name: str) -> str | None:
    row = statements.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])
