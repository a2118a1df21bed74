"""Which recipients were marked as having epoch keys, so that a replayed older answer of DNS does not undo the mark."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final, Self

from idlib.errors import ConfigurationError, StoreError
from idlib.names import IdentityName
from idlib.settings import Settings
from idlib.storage.epoch_notes import MAX_MARKED_NAMES
from idlib.storage.outbox import Outbox, is_to_be_opened
from idlib.storage.outboxes import open_outbox
from idlib.storage.queued import MarkStore
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

# No answer from before the mark is still valid: signatures of DNSSEC commonly last for two weeks.
REMEMBERED_SECONDS: Final = 14 * 24 * 3600
_REWRITE_SECONDS: Final = 3600
_READ_AGAIN_SECONDS: Final = 60.0


class MarkMemory:
    """Which names were marked, and when; kept in the outbox, so that it outlives the program.

    Any number of threads may use it.

    Args:
        is_there: Returns whether the outbox exists.
        opened: Returns the open outbox, for one use.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self,
        is_there: Callable[[], bool],
        opened: Callable[[], AbstractContextManager[MarkStore]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_there = is_there
        self._opened = opened
        self._clock = clock
        self._marked_at: dict[str, int] = {}
        # Until when a name need not be read again that was not remembered.
        self._unknown_until: dict[str, float] = {}
        self._outage = FailureLog(_LOG)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the memory in the outbox of the settings, which is opened for each use.

        Args:
            settings: STORE, STORE_PASSWORD_FILE and DATA_PATH are used.
        """
        if settings.store is None:
            return cls.in_directory(settings.data_path)
        return cls(lambda: True, partial(open_outbox, settings))

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """Return the memory in an outbox that is opened for each use.

        Args:
            directory: The directory of the outbox, which may not exist yet.
        """
        return cls(partial(is_to_be_opened, directory), partial(Outbox, directory))

    def note(self, name: IdentityName, now: int) -> None:
        """Remember that a name is marked; if the outbox cannot be written, only this program does.

        Args:
            name: The recipient.
            now: Seconds since the epoch.
        """
        known = self._marked_at.get(str(name))
        if known is not None and known <= now < known + _REWRITE_SECONDS:
            return
        if len(self._marked_at) >= MAX_MARKED_NAMES:
            self._marked_at.clear()
        self._marked_at[str(name)] = now
        try:
            with self._opened() as outbox:
                outbox.note_mark(str(name), now)
        except (ConfigurationError, StoreError) as error:
            self._outage.begin(f"The mark of {name} is not remembered: {error}")
        else:
            self._outage.end()

    def recently_marked_at(self, name: IdentityName, now: int) -> int | None:
        """Return when a name was last seen marked, in seconds since the epoch; None if that is 14 days ago, or unknown.

        Args:
            name: The recipient.
            now: Seconds since the epoch.

        Raises:
            StoreError: The outbox cannot be read.
        """
        marked_at = self._read(str(name))
        if marked_at is not None and marked_at > now:
            # The clock was wrong then. The 14 days begin now, because they would be longer otherwise.
            self.note(name, now)
            return now
        return None if marked_at is None or now - marked_at >= REMEMBERED_SECONDS else marked_at

    def forget(self, name: IdentityName) -> bool:
        """Forget that a name was marked; return whether that was remembered.

        Args:
            name: The recipient.

        Raises:
            StoreError: The outbox cannot be read or written.
        """
        if self._read(str(name)) is None:
            return False
        with self._opened() as outbox:
            outbox.forget_mark(str(name))
        self._marked_at.pop(str(name), None)
        return True

    def _read(self, name: str) -> int | None:
        # Read once, because another thread may clear it.
        known = self._marked_at.get(name)
        if known is not None or self._clock() < self._unknown_until.get(name, 0.0):
            return known
        # A program that sends lines creates no outbox to find that it is empty.
        if self._is_there():
            with self._opened() as outbox:
                marked_at = outbox.marked_at(name)
            if marked_at is not None:
                self._marked_at[name] = marked_at
                return marked_at
        if len(self._unknown_until) >= MAX_MARKED_NAMES:
            self._unknown_until.clear()
        self._unknown_until[name] = self._clock() + _READ_AGAIN_SECONDS
        return None
