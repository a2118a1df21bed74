"""Decides if the resident sender trusts the clock: with a wrong clock no message expires or is sealed."""

import contextlib
import logging
import time
from pathlib import Path
from typing import Final, Protocol

from idlib.errors import StoreError
from idlib.storage.clock_file import ClockFile
from idlib.system.failure_log import FailureLog
from idlib.timekeeping import ClockState, Timekeeper, keep_clock
from idlib.trust import Moment

_LOG = logging.getLogger(__name__)

# Differs from that of the receiver, which may have the same DATA_PATH.
COMMAND_FILE_NAME: Final = "trust-clock-of-sender"
_UPKEEP_SECONDS: Final = 10.0


class DeliveryClock(Protocol):
    """The clock of a resident sender and how far it is trusted; updated by one thread, read by any number."""

    def keep(self) -> None:
        """Bring what is known about the clock up to date; called several times a second."""

    def trusted_moment(self) -> Moment | None:
        """Return what the clock shows, or None if it is not trusted to expire messages."""

    @property
    def may_seal(self) -> bool:
        """Whether messages may be sealed: there is no evidence that the clock is wrong."""


class SenderClock:
    """The clock and how far it is trusted; updated by one thread, read by any number.

    Args:
        directory: DATA_PATH.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._timekeeper: Timekeeper | None = None
        self._outage = FailureLog(_LOG)
        self._due_at = time.monotonic()

    def keep(self) -> None:
        """Record the time and obey the operator's command, every 10 s.

        If the time cannot be recorded, the clock is judged by what is known so far, so a full disk delays no message.
        """
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + _UPKEEP_SECONDS
        try:
            if self._timekeeper is None:
                self._timekeeper = Timekeeper(ClockFile(self._directory))
            keep_clock(self._timekeeper, self._directory, COMMAND_FILE_NAME)
        except StoreError as error:
            self._outage.begin(f"The time cannot be recorded: {error}")
        else:
            self._outage.end()

    def finish(self) -> None:
        """Write what is known about the clock, before the program ends."""
        if self._timekeeper is not None:
            with contextlib.suppress(StoreError):
                self._timekeeper.finish()

    def trusted_moment(self) -> Moment | None:
        """Return what the clock shows, or None if it is not trusted to expire messages."""
        if self._timekeeper is None:
            return None
        moment = self._timekeeper.moment()
        return moment if moment.is_set and moment.is_certain else None

    @property
    def may_seal(self) -> bool:
        """Whether messages may be sealed: there is no evidence that the clock is wrong."""
        if self._timekeeper is None:
            return False
        state = self._timekeeper.state
        return state.is_trusted or (state is ClockState.UNCERTAIN and not self._timekeeper.was_ever_trusted)
