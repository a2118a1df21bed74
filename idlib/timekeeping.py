"""The device's clock: what it shows, how far that can be trusted, and how long the system has run.

The clock is in the first of these states that applies:

| state     | it applies                                          | too old, expired | from the future | prune, expire |
|-----------|-----------------------------------------------------|------------------|-----------------|---------------|
| UNSET     | it shows a time before this software was made, or   | wait             | wait            | no            |
|           | before the recorded time                            |                  |                 |               |
| UNCERTAIN | it is more than 14 days ahead of what it showed     | wait             | wait            | no            |
|           | when it was last trusted, or has moved by more than |                  |                 |               |
|           | 5 minutes against the boot clock since then         |                  |                 |               |
| LATE      | it has not been set since the system was started    | refuse           | wait            | yes           |
| TRUSTED   | otherwise                                           | refuse           | refuse          | yes           |

The clock counts as set once the kernel has reported synchronization in this boot, once the system has run for 24 hours
in this boot, or after the operator's command. "What it showed when it was last trusted" includes the time for which the
system has run since; if the clock has never been trusted, the time at which this software was made is used instead.

An UNSET or UNCERTAIN clock is trusted again:

- at once if it returns to where it was, or, if it was only too far ahead, to a time that is not;
- at once if nothing is recorded yet and the kernel reports synchronization;
- at once after the operator's command;
- after 24 hours without a jump in which the kernel reported synchronization, or after 24 hours without a jump if the
  kernel has not reported synchronization since the doubt began; but never if it shows a time before this software was
  made.

Only hours in which the system ran and the clock was watched count. They add up across restarts of the program and of
the system, and synchronization may be lost in between. They start again from zero if the clock moves by more than 5
minutes. After a start of the system, the clock may be up to 14 days ahead instead, because the system may have been off
for that long, and it may be behind until it is set.

A correct clock is never behind the recorded time. Time servers are not authenticated, so one wrong answer must do no
damage: the time that the clock shows is recorded only after it has shown at least that time for 24 such hours. Until
then, the recorded time advances only by the time for which the system runs. If nothing is recorded yet, the time that
the clock shows is recorded as soon as it is TRUSTED, or once it has been LATE for 24 hours. The operator's command and
the end of a doubt can set the recorded time back. While the clock is UNSET or UNCERTAIN, no time is recorded.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Final, NamedTuple

from idlib.errors import ClockError, StoreError, quoted
from idlib.output import rfc3339
from idlib.storage.clock_facts import FACT, ClockFacts, ClockStore, Doubt, Trial
from idlib.system import clock
from idlib.time_source import TimeSource
from idlib.trust import EARLIEST_CREDIBLE_TIME, MAX_CLOCK_LEAD_SECONDS, MAX_MESSAGE_AGE_SECONDS, Moment

_LOG = logging.getLogger(__name__)

MAX_DIVERGENCE_SECONDS: Final = 300.0
SETTLING_SECONDS: Final = 24 * 3600.0
RECORDING_SECONDS: Final = 600.0
COMMAND_FILE_NAME: Final = "trust-clock"
# An older command does not apply to what the clock shows now.
MAX_COMMAND_AGE_SECONDS: Final = 600.0
_SYNCHRONIZATION_SECONDS: Final = 1.0


class ClockState(Enum):
    """How far the clock can be trusted; see this module's table."""

    UNSET = auto()
    UNCERTAIN = auto()
    LATE = auto()
    TRUSTED = auto()

    @property
    def is_trusted(self) -> bool:
        """Whether data may be pruned, expired and deleted by this clock."""
        return self in {ClockState.LATE, ClockState.TRUSTED}


class _Sample(NamedTuple):
    """Both clocks, read together.

    Args:
        wall: What the clock shows, in seconds since the epoch.
        up: How many seconds the system has run in this boot.
        elapsed: How many seconds it has run in all boots.
    """

    wall: float
    up: float
    elapsed: float


def _system_time() -> float:
    return time.time()


class Timekeeper:
    """Decides how far the clock can be trusted, by recorded times, the boot clock and the kernel. Thread-safe.

    Args:
        store: Stores what is known about the clock.
        wall_clock: Returns seconds since the epoch.
        boot_clock: Returns seconds since the system was started, including those in which it was suspended.

    Raises:
        StoreError: The store cannot be read.
    """

    def __init__(
        self,
        store: ClockStore,
        wall_clock: Callable[[], float] = _system_time,
        boot_clock: Callable[[], float] = clock.boot_time,
    ) -> None:
        self._store = store
        self._wall_clock = wall_clock
        self._boot_clock = boot_clock
        self._lock = threading.RLock()
        self._boot = clock.boot()
        self._asked_kernel_at = -_SYNCHRONIZATION_SECONDS
        self._is_synchronized = False
        self._facts = facts = ClockFacts.from_text(store.get_fact(FACT))
        is_same_boot = facts.boot == self._boot and facts.up <= boot_clock()
        # How long the system ran in earlier boots.
        self._elapsed_before = facts.elapsed - facts.up if is_same_boot else facts.elapsed
        if not is_same_boot:
            facts.offset = None
        if facts.trusted_at is None:
            facts.trusted_at = self.elapsed()
        self._was_set = is_same_boot and store.boot == self._boot
        # From the last look by this process: the boot clock, and whether the kernel reported synchronization.
        self._last_look: tuple[float, bool] | None = None
        # When the facts were last written, and the state at that time.
        self._written: tuple[float, ClockState] | None = None
        self._is_suspended = False
        self._look()

    @property
    def state(self) -> ClockState:
        """How far the clock can be trusted now."""
        return self._look()[1]

    @property
    def was_ever_trusted(self) -> bool:
        """Whether the clock has been trusted before, so that there is a time to compare it with."""
        return self._has_recorded() or self._facts.shown > 0.0

    def moment(self) -> Moment:
        """Return what the clock shows, and how far that can be trusted."""
        return _moment(*self._look())

    def trusted_time(self) -> float | None:
        """Return what the clock shows, in seconds since the epoch, or None if no data may be deleted by it."""
        sample, state = self._look()
        return sample.wall if state.is_trusted else None

    def credible_time(self) -> int:
        """Return what the clock shows, in seconds since the epoch, or what it showed when it was last trusted."""
        sample, state = self._look()
        return int(sample.wall if state.is_trusted else self._latest_credible())

    def elapsed(self) -> float:
        """Return for how many seconds the system has run since the store was created; independent of the clock."""
        return self._elapsed_before + self._boot_clock()

    def record(self) -> Moment | None:
        """Record the time if it is due; return what the clock shows, or None if nothing may expire by it.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._lock:
            sample, state = self._look()
            if not state.is_trusted:
                state = self._settle(sample, state)
            if self._is_due(sample, state):
                self._write(sample, state)
            if state is ClockState.TRUSTED:
                self._facts.offset = sample.wall - sample.up
            return _moment(sample, state) if state.is_trusted else None

    def finish(self) -> None:
        """Write what is known about the clock, before the program ends.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._lock:
            self._write(*self._look())

    def trust(self) -> None:
        """Trust the clock by the operator's command, even if it shows an earlier time than the recorded one.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._lock:
            sample, _ = self._look()
            if sample.wall < EARLIEST_CREDIBLE_TIME:
                _LOG.warning("--trust-clock ignored: the clock shows %s", rfc3339(int(sample.wall)))
                return
            self._store.trust_clock_since(self._boot)
            self._accept(sample, sample.wall)
            self._facts.trial, self._facts.latest_trial = _trial_from(sample), _trial_from(sample)
            latest_issue = int(sample.wall) + MAX_CLOCK_LEAD_SECONDS
            was_lowered = self._store.lower_floor(latest_issue)
            self._write_facts(sample, ClockState.TRUSTED)
        _LOG.info("The clock is trusted by command: it shows %s", rfc3339(int(sample.wall)))
        if was_lowered:
            _LOG.info("Bound messages issued after %s are no longer refused as possible repeats", rfc3339(latest_issue))

    def _look(self) -> tuple[_Sample, ClockState]:
        """Read both clocks once, and return the state of the clock."""
        with self._lock:
            up = self._boot_clock()
            sample = _Sample(self._wall_clock(), up, self._elapsed_before + up)
            state = self._judge(sample)
            self._watch(sample, state)
            return sample, state

    def _judge(self, sample: _Sample) -> ClockState:
        if sample.wall < max(EARLIEST_CREDIBLE_TIME, self._store.latest_time):
            return ClockState.UNSET
        facts = self._facts
        if facts.offset is not None:
            has_moved = abs(sample.wall - sample.up - facts.offset) > MAX_DIVERGENCE_SECONDS
            facts.doubt = Doubt.MOVED if has_moved else Doubt.NONE
        elif self._is_far_ahead(sample):
            facts.doubt = facts.doubt or Doubt.AHEAD
        elif facts.doubt is Doubt.AHEAD:
            facts.doubt = Doubt.NONE
        if facts.doubt:
            return ClockState.UNCERTAIN
        return ClockState.LATE if self._may_be_late(sample) else ClockState.TRUSTED

    def _is_far_ahead(self, sample: _Sample) -> bool:
        return sample.wall > self._latest_credible() + self._since_trusted(sample) + MAX_MESSAGE_AGE_SECONDS

    def _latest_credible(self) -> float:
        return max(EARLIEST_CREDIBLE_TIME, self._store.latest_time, self._facts.shown)

    def _since_trusted(self, sample: _Sample) -> float:
        return sample.elapsed - (self._facts.trusted_at or 0.0)

    def _may_be_late(self, sample: _Sample) -> bool:
        is_set = self._store.boot == self._boot or sample.up >= SETTLING_SECONDS
        return not is_set and not self._ask_kernel(sample)

    def _ask_kernel(self, sample: _Sample) -> bool:
        if sample.up - self._asked_kernel_at >= _SYNCHRONIZATION_SECONDS:
            self._is_synchronized = clock.is_synchronized()
            self._asked_kernel_at = sample.up
        return self._is_synchronized

    def _watch(self, sample: _Sample, state: ClockState) -> None:
        """Note for how long the clock has run without a jump."""
        if sample.wall < EARLIEST_CREDIBLE_TIME:
            # The clock is certainly wrong, so this time does not count.
            self._last_look = None
            self._is_suspended = True
            return
        facts, is_synchronized = self._facts, self._ask_kernel(sample)
        is_in_doubt, is_late = not state.is_trusted, self._may_be_late(sample)
        move = sample.wall - facts.wall - (sample.elapsed - facts.watched_at)
        is_new = facts.wall == 0.0 or (is_in_doubt and not facts.is_in_doubt)
        self._is_suspended = False
        passed = self._passed(sample, is_synchronized=is_synchronized)
        if is_new or self._has_changed(sample, move, is_late=is_late):
            facts.trial = _trial_from(sample)
        elif not self._is_suspended:
            facts.trial.add(*passed)
        if is_new or abs(move) > MAX_DIVERGENCE_SECONDS:
            facts.latest_trial = _trial_from(sample)
        else:
            facts.latest_trial.add(*passed)
        for trial in (facts.trial, facts.latest_trial):
            trial.was_synchronized |= is_synchronized
        facts.is_in_doubt = is_in_doubt
        facts.wall, facts.watched_at = sample.wall, sample.elapsed
        self._last_look = sample.up, is_synchronized
        self._was_set = not is_late

    def _passed(self, sample: _Sample, *, is_synchronized: bool) -> tuple[float, float]:
        """Return for how many seconds the clock was watched since the last look, and how many of them synchronized."""
        if self._last_look is None:
            return 0.0, 0.0
        up, was_synchronized = self._last_look
        seconds = sample.up - up
        return seconds, seconds if was_synchronized and is_synchronized else 0.0

    def _has_changed(self, sample: _Sample, move: float, *, is_late: bool) -> bool:
        """Return whether the clock has jumped; being behind because it is late does not count as a jump."""
        trial = self._facts.trial
        if self._was_set:
            return abs(move) > MAX_DIVERGENCE_SECONDS
        if move > MAX_MESSAGE_AGE_SECONDS:
            return True
        if sample.wall >= trial.least_at(sample.elapsed) - MAX_DIVERGENCE_SECONDS:
            return False
        if not is_late:
            return True
        if trial.was_synchronized:
            self._is_suspended = True
        else:
            trial.least, trial.begun_at = sample.wall, sample.elapsed
        return False

    def _is_tried(self) -> bool:
        return not self._is_suspended and self._facts.trial.has_lasted(SETTLING_SECONDS)

    def _settle(self, sample: _Sample, state: ClockState) -> ClockState:
        """Trust the clock again after a doubt, if the conditions are met; return its state."""
        if sample.wall < EARLIEST_CREDIBLE_TIME:
            return state
        if not self._has_recorded() and self._ask_kernel(sample):
            self._accept(sample, sample.wall)
        elif self._is_tried():
            self._accept(sample, self._tried_time(sample))
        else:
            return state
        _LOG.info("The clock is trusted: it shows %s", rfc3339(int(sample.wall)))
        return self._judge(sample)

    def _accept(self, sample: _Sample, recorded: float) -> None:
        """Replace the recorded time, even by an earlier one, and end every doubt."""
        self._store.reset_time(int(recorded))
        facts = self._facts
        facts.doubt, facts.is_in_doubt = Doubt.NONE, False
        # When a time server first sets a late clock, that does not count as a jump.
        facts.offset = None if self._may_be_late(sample) else sample.wall - sample.up
        facts.shown, facts.trusted_at = sample.wall, sample.elapsed

    def _has_recorded(self) -> bool:
        return self._store.latest_time > 0

    def _is_due(self, sample: _Sample, state: ClockState) -> bool:
        if self._written is None or self._written[1] is not state:
            return True
        return sample.elapsed - self._written[0] >= RECORDING_SECONDS

    def _write(self, sample: _Sample, state: ClockState) -> None:
        if sample.wall >= EARLIEST_CREDIBLE_TIME and not self._may_be_late(sample):
            self._store.trust_clock_since(self._boot)
        if state.is_trusted:
            self._record_time(sample, state)
        self._write_facts(sample, state)

    def _record_time(self, sample: _Sample, state: ClockState) -> None:
        proven = self._proven_time(sample, state)
        if proven is not None:
            self._store.note_time(int(proven))
        facts = self._facts
        facts.shown, facts.trusted_at = sample.wall, sample.elapsed
        if self._is_tried() and self._tried_time(sample) < sample.wall:
            # The clock shows a later time than the one recorded, and that is still on trial.
            facts.trial = _trial_from(sample)

    def _proven_time(self, sample: _Sample, state: ClockState) -> float | None:
        """Return the latest time that may be recorded for a trusted clock; None if there is none."""
        if not self._has_recorded():
            return sample.wall if state is ClockState.TRUSTED or self._is_tried() else None
        if self._facts.latest_trial.has_lasted(SETTLING_SECONDS):
            return sample.wall
        proven = self._store.latest_time + self._since_trusted(sample)
        if self._is_tried():
            proven = max(proven, self._tried_time(sample))
        return min(sample.wall, proven)

    def _tried_time(self, sample: _Sample) -> float:
        """Return the time on trial: what the clock shows, or less if it was far behind that when the trial began."""
        least = self._facts.trial.least_at(sample.elapsed)
        return sample.wall if sample.wall - least <= MAX_DIVERGENCE_SECONDS else least

    def _write_facts(self, sample: _Sample, state: ClockState) -> None:
        facts = self._facts
        facts.boot, facts.up, facts.elapsed = self._boot, sample.up, sample.elapsed
        if state is ClockState.TRUSTED:
            facts.offset = sample.wall - sample.up
        self._store.set_fact(FACT, str(facts))
        self._written = sample.elapsed, state


def _moment(sample: _Sample, state: ClockState) -> Moment:
    return Moment(
        sample.wall,
        is_set=state is not ClockState.UNSET,
        is_certain=state is not ClockState.UNCERTAIN,
        may_be_late=state is ClockState.LATE,
    )


def _trial_from(sample: _Sample) -> Trial:
    return Trial(sample.wall, sample.elapsed)


def leave_command(directory: Path, name: str = COMMAND_FILE_NAME) -> str:
    """Leave a command for a running program to trust the clock; return the time that the clock shows.

    Args:
        directory: DATA_PATH of the program.
        name: The name of the command file that the program looks for.

    Raises:
        ClockError: The clock is certainly wrong.
        StoreError: The directory cannot be written.
    """
    now = time.time()
    if now < EARLIEST_CREDIBLE_TIME:
        raise ClockError(
            f"the clock shows {rfc3339(int(now))}, before this software was released", "set the clock first"
        )
    path = directory / name
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        os.utime(path, (now, now))
    except OSError as error:
        raise StoreError(
            f"{quoted(path)} cannot be written: {error.strerror}", "run this as the program's user, with its DATA_PATH"
        ) from error
    return rfc3339(int(now))


def keep_clock(timekeeper: TimeSource, directory: Path, name: str = COMMAND_FILE_NAME) -> Moment | None:
    """Obey the operator's command, and record the time; to be called every few seconds.

    Args:
        timekeeper: Decides how far the clock can be trusted.
        directory: DATA_PATH of the program.
        name: The name of the command file.

    Returns:
        What the clock shows, or None if nothing may expire by it.

    Raises:
        StoreError: What is known about the clock cannot be written; the command is obeyed at the next call.
    """
    take_command(directory, timekeeper.trust, name)
    return timekeeper.record()


def take_command(directory: Path, obey: Callable[[], None], name: str = COMMAND_FILE_NAME) -> bool:
    """Obey the operator's command to trust the clock, if there is a recent one, and remove its file.

    Args:
        directory: DATA_PATH of the program.
        obey: Trusts the clock.
        name: The name of the command file.

    Returns:
        Whether there was a recent command.

    Raises:
        StoreError: The command cannot be obeyed; it stays for the next call.
    """
    path = directory / name
    try:
        left_at = path.lstat().st_mtime
    except OSError:
        return False
    is_fresh = abs(time.time() - left_at) <= MAX_COMMAND_AGE_SECONDS
    if is_fresh:
        obey()
    else:
        _LOG.warning("--trust-clock ignored: it was given at %s", rfc3339(int(left_at)))
    with contextlib.suppress(OSError):
        path.unlink()
    return is_fresh
