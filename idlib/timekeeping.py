"""Our own clock: what it shows, how far that can be trusted, and how long the system has run.

The states of the clock, of which the first that applies holds:

| state     | it applies                                          | too old, expired | from the future | prune, expire |
|-----------|-----------------------------------------------------|------------------|-----------------|---------------|
| UNSET     | it shows a time before this software was made, or   | wait             | wait            | no            |
|           | before the recorded time                            |                  |                 |               |
| UNCERTAIN | it is more than 14 days ahead of the recorded time, | wait             | wait            | no            |
|           | or has moved by more than 5 minutes against the     |                  |                 |               |
|           | boot clock since it was last trusted                |                  |                 |               |
| LATE      | nobody has set it since the system was started      | refuse           | wait            | yes           |
| TRUSTED   | otherwise                                           | refuse           | refuse          | yes           |

An UNCERTAIN clock is trusted again at once if it returns to where it was, after the operator's command, or once the
kernel has reported synchronization for 24 hours; if the kernel does not report it, after 24 hours. A time server is not
authenticated, so one wrong answer of it must do no damage. Hours are those for which the system has run. If nothing is
recorded yet, a kernel that reports synchronization is enough. Only a clock that is TRUSTED or LATE is recorded.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Final

from idlib import clock
from idlib.errors import ClockError, StoreError, quoted
from idlib.storage import ReplayStore
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_MESSAGE_AGE_SECONDS, Moment

_LOG = logging.getLogger(__name__)

MAX_DIVERGENCE_SECONDS: Final = 300.0
SETTLING_SECONDS: Final = 24 * 3600.0
RECORDING_SECONDS: Final = 600.0
COMMAND_FILE_NAME: Final = "trust-clock"
# A command that was given long ago says nothing of what the clock shows now.
MAX_COMMAND_AGE_SECONDS: Final = 600.0
_SYNCHRONIZATION_SECONDS: Final = 1.0
_ELAPSED: Final = "elapsed"
_UNCERTAIN_SINCE: Final = "clock_uncertain_since"
_OFFSET: Final = "clock_offset"


class ClockState(Enum):
    """How far the clock can be trusted; see this module's table."""

    UNSET = auto()
    UNCERTAIN = auto()
    LATE = auto()
    TRUSTED = auto()


def _system_time() -> float:
    return time.time()


class Timekeeper:
    """Judges our clock by the latest time that was recorded, by the boot clock, and by what the kernel says of it.

    Args:
        store: Where the latest time is recorded.
        wall_clock: Seconds since the epoch.
        boot_clock: Seconds since the system was started, those in which it slept included.

    Raises:
        StoreError: The store cannot be read or written.
    """

    def __init__(
        self,
        store: ReplayStore,
        wall_clock: Callable[[], float] = _system_time,
        boot_clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._store = store
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._boot = clock.boot()
        self._asked_kernel_at = -_SYNCHRONIZATION_SECONDS
        self._is_synchronized = False
        self._synchronized_since: float | None = None
        self._elapsed_before = self._read_elapsed()
        since = store.fact(_UNCERTAIN_SINCE, "")
        self._uncertain_since = float(since) if since else None
        boot, _, offset = store.fact(_OFFSET, "").rpartition(" ")
        self._offset = float(offset) if boot == self._boot and offset else None
        self._recorded_at: float | None = None
        self._was_uncertain = self._uncertain_since is not None
        self._judge()

    @property
    def state(self) -> ClockState:
        """How far the clock can be trusted at present."""
        return self._judge()

    def moment(self) -> Moment:
        """Return what the clock shows, and how far that can be trusted."""
        state = self._judge()
        return Moment(
            self._wall_clock(),
            is_set=state is not ClockState.UNSET,
            is_certain=state is not ClockState.UNCERTAIN,
            may_be_late=state is ClockState.LATE,
        )

    def credible_time(self) -> int:
        """Return what the clock shows, in seconds since the epoch, or the recorded time if the clock may be wrong."""
        is_wrong = self._judge() in {ClockState.UNSET, ClockState.UNCERTAIN}
        return max(self._store.latest_time, EARLIEST_CREDIBLE_TIME) if is_wrong else int(self._wall_clock())

    def elapsed(self) -> float:
        """Return for how many seconds the system has run since the store was made; the clock has no part in it."""
        return self._elapsed_before + self._boot_clock()

    def record(self) -> Moment | None:
        """Record the time now and then; return what the clock shows, or None if nothing may expire by it.

        Raises:
            StoreError: The store cannot be written.
        """
        self._settle()
        state = self._judge()
        moment = self.moment()
        elapsed = self.elapsed()
        is_uncertain = self._uncertain_since is not None
        is_due = self._recorded_at is None or elapsed - self._recorded_at >= RECORDING_SECONDS
        if is_due or is_uncertain is not self._was_uncertain:
            self._was_uncertain = is_uncertain
            self._write(state, moment.now)
            self._recorded_at = elapsed
        if state in {ClockState.UNSET, ClockState.UNCERTAIN}:
            return None
        if state is ClockState.TRUSTED:
            self._offset = moment.now - self._boot_clock()
        return moment

    def finish(self) -> None:
        """Write how long the system has run, before the receiver ends.

        Raises:
            StoreError: The store cannot be written.
        """
        self._write(self._judge(), self._wall_clock())

    def trust(self) -> None:
        """Trust the clock as the operator says, also if it shows an earlier time than was recorded.

        Raises:
            StoreError: The store cannot be written.
        """
        now = self._wall_clock()
        self._store.reset_time(int(now))
        self._store.trust_clock_since(self._boot)
        self._offset = now - self._boot_clock()
        self._set_uncertain_since(None)
        _LOG.info("The clock is trusted by command: it shows %s", _shown(now))

    def _judge(self) -> ClockState:
        now = self._wall_clock()
        latest = max(EARLIEST_CREDIBLE_TIME, self._store.latest_time)
        if now < latest:
            return ClockState.UNSET
        is_far_ahead = now > latest + MAX_MESSAGE_AGE_SECONDS
        has_moved = self._offset is not None and abs(now - self._boot_clock() - self._offset) > MAX_DIVERGENCE_SECONDS
        if is_far_ahead or has_moved:
            if self._uncertain_since is None:
                self._uncertain_since = self.elapsed()
        elif self._offset is not None:
            # It has returned to where it was.
            self._uncertain_since = None
        if self._uncertain_since is not None:
            return ClockState.UNCERTAIN
        return ClockState.LATE if self._may_be_late() else ClockState.TRUSTED

    def _settle(self) -> None:
        """Trust an uncertain clock if that has been so for long enough."""
        is_synchronized, elapsed = self._ask_kernel(), self.elapsed()
        if not is_synchronized:
            self._synchronized_since = None
        elif self._synchronized_since is None:
            self._synchronized_since = elapsed
        if self._judge() is not ClockState.UNCERTAIN or self._uncertain_since is None:
            return
        since = max(self._uncertain_since, self._synchronized_since or 0.0)
        is_new = is_synchronized and self._store.latest_time == 0
        if is_new or elapsed - since >= SETTLING_SECONDS:
            now = self._wall_clock()
            self._store.note_time(int(now))
            self._offset = now - self._boot_clock()
            self._set_uncertain_since(None)
            _LOG.info("The clock is trusted: it shows %s", _shown(now))

    def _write(self, state: ClockState, now: float) -> None:
        self._store.set_fact(_ELAPSED, f"{self._boot} {self._boot_clock():.0f} {self.elapsed():.0f}")
        self._set_uncertain_since(self._uncertain_since)
        if state is ClockState.TRUSTED:
            self._store.trust_clock_since(self._boot)
            self._store.set_fact(_OFFSET, f"{self._boot} {now - self._boot_clock():.3f}")
        if state in {ClockState.TRUSTED, ClockState.LATE}:
            self._store.note_time(int(now))

    def _set_uncertain_since(self, since: float | None) -> None:
        self._store.set_fact(_UNCERTAIN_SINCE, "" if since is None else f"{since:.0f}")
        self._uncertain_since = since

    def _may_be_late(self) -> bool:
        if self._store.boot in {"", self._boot} or self._boot_clock() >= SETTLING_SECONDS:
            return False
        return not self._ask_kernel()

    def _ask_kernel(self) -> bool:
        now = self._boot_clock()
        if now - self._asked_kernel_at >= _SYNCHRONIZATION_SECONDS:
            self._is_synchronized = clock.is_synchronized()
            self._asked_kernel_at = now
        return self._is_synchronized

    def _read_elapsed(self) -> float:
        """Return the seconds that earlier starts of the system add to those since the present one."""
        kept = self._store.fact(_ELAPSED, f"{self._boot} {self._boot_clock():.0f} 0")
        boot, boot_seconds, elapsed = kept.rsplit(" ", 2)
        return float(elapsed) - float(boot_seconds) if boot == self._boot else float(elapsed)


def leave_command(directory: Path) -> str:
    """Leave word for the receiver to trust the clock, and return the time that it shows.

    Args:
        directory: DATA_PATH of the receiver.

    Raises:
        ClockError: The clock cannot be right.
        StoreError: The directory cannot be written.
    """
    now = time.time()
    if now < EARLIEST_CREDIBLE_TIME:
        raise ClockError(f"the clock shows {_shown(now)}, before this software was made", "set the clock first")
    path = directory / COMMAND_FILE_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        os.utime(path, (now, now))
    except OSError as error:
        raise StoreError(
            f"{quoted(path)} cannot be written: {error.strerror}", "run this as the receiver's user, with its DATA_PATH"
        ) from error
    return _shown(now)


def take_command(directory: Path) -> bool:
    """Return whether the operator has left word, a short time ago, to trust the clock; it is taken away.

    Args:
        directory: DATA_PATH of the receiver.
    """
    path = directory / COMMAND_FILE_NAME
    try:
        left_at = path.lstat().st_mtime
    except OSError:
        return False
    with contextlib.suppress(OSError):
        path.unlink()
    if abs(time.time() - left_at) <= MAX_COMMAND_AGE_SECONDS:
        return True
    _LOG.warning("The command to trust the clock is ignored: it was given at %s", _shown(left_at))
    return False


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
