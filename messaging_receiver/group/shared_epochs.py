"""What the receivers of a group agree on before an epoch key is used.

They share EPOCH_PATH. Each destroys there what is overdue. One of them at a time has the turn: it creates keys, writes
the spool, and keeps the list of destroyed keys. The record of a key is left in the spool only once every other live
receiver has confirmed that it can read the private half, because the broker gives a message to any of them.

How long a half has lived is counted in the database, because no machine need be there for the whole of it. Every
receiver continues the recorded time by its own boot clock, and the one that has the turn records it; the greatest value
counts. So a clock that is set back, also that of the database server, prolongs no half while any receiver runs, and a
machine that joins or returns does not count from the beginning. As with a single receiver, the time in which none of
them runs is measured by the clock alone.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from idlib.epochs.destroyed import MAX_DESTROYED
from idlib.epochs.halves import Halves
from idlib.epochs.schedule import Half
from idlib.errors import StoreError, quoted
from idlib.output import counted
from idlib.settings import Settings
from idlib.storage.postgresql.connection import PostgresDatabase
from idlib.storage.postgresql.epoch_readers import EpochReaders, KeeperTurn
from idlib.storage.postgresql.leases import LEASE_SECONDS
from idlib.system.clock import boot_time
from idlib.system.failure_log import FailureLog
from messaging_receiver.epoch_group import Turn

_LOG = logging.getLogger(__name__)

# The others look every 10 s, so it is normal that a new key is unconfirmed for a moment.
PATIENCE_SECONDS: Final = 25.0


class SharingReceivers:
    """The receivers that share a name, a database and EPOCH_PATH.

    Args:
        readers: Stores the confirmations.
        directory: EPOCH_PATH.
        clock: Returns the seconds since the system was started, including those in which it was suspended.
    """

    def __init__(
        self,
        readers: EpochReaders,
        directory: Path,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._readers = readers
        self._directory = directory
        self._clock = clock
        # What the receivers have run for, and when that was so.
        self._elapsed, self._elapsed_at = 0.0, clock()
        self._is_prepared = False
        # When this receiver last knew everything that the others wait for.
        self._confirmed_at: float | None = None
        self._missing: frozenset[str] = frozenset()
        # Since when keys are missing here, or a key waits for others.
        self._missing_since: float | None = None
        self._waiting_since: float | None = None
        # Destroyed by this receiver, and not on the list as far as it knows; in the order of their destruction.
        self._unlisted: dict[str, Half] = {}
        self._had_turn = False
        self._missing_outage = FailureLog(_LOG)
        self._consent_outage = FailureLog(_LOG)

    @property
    def is_ready(self) -> bool:
        """Whether this receiver may subscribe: the others know of it, and it can read every key that they can read."""
        return self._confirmed_at is not None and not self._missing

    @property
    def problem(self) -> str | None:
        """What is wrong, or None."""
        return self._missing_outage.cause or self._consent_outage.cause

    def elapsed(self) -> float:
        """Return for how many seconds any of the receivers has run, whatever the clock shows."""
        return self._elapsed + self._clock() - self._elapsed_at

    def finish(self, halves: Halves) -> None:
        """Complete what a process that was killed has begun to destroy; the rest waits for the turn.

        Args:
            halves: The private halves.
        """
        # Before anything is destroyed for its age. Without the database, the clock decides alone.
        with contextlib.suppress(StoreError):
            self._count()
        halves.finish_erasing()

    def destroy(self, halves: Halves, half: Half) -> None:
        """Destroy a half, for all receivers.

        Args:
            halves: The private halves.
            half: The half.
        """
        self._unlisted[half.key_id] = half
        if len(self._unlisted) > MAX_DESTROYED:
            del self._unlisted[next(iter(self._unlisted))]
        halves.erase(half)

    def confirm(self, key_ids: Collection[str], destroyed: Collection[str]) -> None:
        """Confirm which keys this receiver can read, and learn which ones the others can.

        Args:
            key_ids: The ids of the living keys.
            destroyed: The ids of the keys on the list of destroyed ones.

        Raises:
            StoreError: The database cannot be used.
        """
        asked_at = self._clock()
        self._count()
        confirmed = self._readers.confirm(key_ids)
        self._missing = confirmed.elsewhere.difference(key_ids, destroyed, self._unlisted)
        for key_id in self._unlisted.keys() & set(destroyed):
            del self._unlisted[key_id]
        if confirmed.is_live:
            self._confirmed_at = asked_at
        # Another receiver may destroy a key a moment later than this one.
        self._missing_since = self._since(self._missing_since, is_so=bool(self._missing))
        if self._has_lasted(self._missing_since):
            number = counted(len(self._missing), "epoch key")
            self._missing_outage.begin(
                f"epoch keys: {number} of other receivers cannot be read in {quoted(self._directory)}",
                "; let EPOCH_PATH be the same volume for all receivers, and this user read the files there",
            )
        elif not self._missing and self._missing_outage.end():
            _LOG.info("All epoch keys of the other receivers can be read")

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn | None]:
        """Give the turn to this receiver until the block ends, or None if another one has it.

        Raises:
            StoreError: The database cannot be used.
        """
        with self._readers.turn(self.elapsed()) as turn:
            if turn is None:
                self._had_turn = False
                self._note_consent(0)
                yield None
            else:
                yield _SharedTurn(turn, self._note_consent, self._tidy)

    def may_appear(self, halves: Halves, key_id: str) -> bool:
        """Return whether a key that is not known may be one of the device's, although its half is not read yet.

        A key is not published before this receiver has confirmed it. So that is possible only if another receiver can
        read it and this one cannot, if its file has just been created, or if the others may not have waited for this
        receiver.

        Args:
            halves: The private halves.
            key_id: The key's id, as a message states it.
        """
        if key_id in self._unlisted:
            return False
        is_behind = self._confirmed_at is None or self._clock() - self._confirmed_at > LEASE_SECONDS
        return is_behind or key_id in self._missing or halves.has_file(key_id)

    def _count(self) -> None:
        if not self._is_prepared:
            self._readers.prepare()
            self._is_prepared = True
        recorded = self._readers.elapsed()
        self._elapsed, self._elapsed_at = max(recorded, self.elapsed()), self._clock()

    def _tidy(self, halves: Halves) -> None:
        if not self._had_turn:
            # Left by the receiver that had the turn before; a program that creates keys may be at work later.
            halves.remove_leftovers()
            self._had_turn = True
        for key_id, half in tuple(self._unlisted.items()):
            halves.destroyed.add(key_id, half.until)
            del self._unlisted[key_id]

    def _note_consent(self, lacking: int) -> None:
        self._waiting_since = self._since(self._waiting_since, is_so=lacking > 0)
        if self._has_lasted(self._waiting_since):
            self._consent_outage.begin(
                f"epoch keys: the new one waits for {counted(lacking, 'receiver')} to read it in"
                f" {quoted(self._directory)}",
                "; see their logs: EPOCH_PATH must be the same volume for all receivers, and EPOCH_KEYS the same",
            )
        elif not lacking and self._consent_outage.end():
            _LOG.info("All receivers can read the new epoch key")

    def _since(self, since: float | None, *, is_so: bool) -> float | None:
        if not is_so:
            return None
        return self._clock() if since is None else since

    def _has_lasted(self, since: float | None) -> bool:
        return since is not None and self._clock() - since >= PATIENCE_SECONDS


class _SharedTurn:
    def __init__(self, turn: KeeperTurn, note_consent: Callable[[int], None], tidy: Callable[[Halves], None]) -> None:
        self._turn = turn
        self._note_consent = note_consent
        self._tidy = tidy

    def is_agreed(self, key_id: str) -> bool:
        """Return whether every live receiver has confirmed that it can read a key; if not for long, that is logged.

        Args:
            key_id: The id of a key that this receiver can read.
        """
        lacking = self._turn.unconfirmed(key_id)
        self._note_consent(lacking)
        return not lacking

    def tidy(self, halves: Halves) -> None:
        """Note which halves were destroyed, and remove what was left by processes that were killed.

        Args:
            halves: The private halves.
        """
        self._tidy(halves)


@contextlib.contextmanager
def open_sharing(settings: Settings, holder: str) -> Iterator[SharingReceivers]:
    """Open what the receivers share for their epoch keys; they agree with a connection of its own.

    Args:
        settings: The settings from the environment, with STORE.
        holder: This receiver, which has its lease: a key that is created later is published once it has confirmed it.

    Raises:
        ConfigurationError: The settings for the database cannot be used.
    """
    with PostgresDatabase.from_settings(settings) as database:
        yield SharingReceivers(EpochReaders(database, holder), settings.epoch_directory)
