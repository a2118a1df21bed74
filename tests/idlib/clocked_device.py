"""A device with a clock, a kernel and restarts that a test controls."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from idlib.storage.replay import ReplayMemory
from idlib.timekeeping import (
    ClockState,
    Timekeeper,
)
from idlib.trust import EARLIEST_CREDIBLE_TIME

NOW = EARLIEST_CREDIBLE_TIME + 3600.0
HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY


@dataclass
class Device:
    """A device with a wall clock and a boot clock; time passes for both unless the wall clock is set."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch
    wall: float = NOW
    up: float = 100.0
    boot: str = "first boot"
    is_synchronized: bool = False
    is_killed: bool = False
    keeper: Timekeeper = field(init=False)

    def __post_init__(self) -> None:
        self.monkeypatch.setattr("idlib.system.clock.boot", lambda: self.boot)
        self.monkeypatch.setattr("idlib.system.clock.is_synchronized", lambda: self.is_synchronized)

    @contextmanager
    def running(self) -> Iterator[Timekeeper]:
        with ReplayMemory(self.directory) as memory:
            self.keeper = Timekeeper(memory, lambda: self.wall, lambda: self.up)
            self.keeper.record()
            yield self.keeper
            if not self.is_killed:
                self.keeper.finish()

    def recorded(self) -> int:
        with ReplayMemory(self.directory) as memory:
            return memory.latest_time

    def memory_time(self) -> int:
        """Return the recorded time while the receiver runs."""
        return self.keeper._store.latest_time

    def run_for(self, seconds: float) -> None:
        """Let time pass, while the receiver checks the clock regularly."""
        while seconds > 0:
            step = min(seconds, 600.0)
            self.wall, self.up, seconds = self.wall + step, self.up + step, seconds - step
            self.keeper.record()

    def start_anew(self, off_for: float, wall: float | None = None) -> None:
        self.boot, self.up = f"{self.boot} and another", 20.0
        self.wall = self.wall + off_for if wall is None else wall


def state_of(keeper: Timekeeper) -> ClockState:
    return keeper.state
