"""A clock that shows a different time to the programs of one or more devices."""

import threading
from pathlib import Path
from typing import Final

# The file is read at most 20 times a second, so that a program that reads the clock often is not slowed down. Both
# clocks are shifted by what one reading returned: they are compared with each other.
_MODULE: Final = """\
import pathlib, time
_real, _monotonic, _clock_gettime = time.time, time.monotonic, time.clock_gettime
_file = pathlib.Path(__file__).with_name("offset")
_offsets, _read_at = (0.0, 0.0), -1.0
def _read():
    global _offsets, _read_at
    now = _monotonic()
    if now >= _read_at + 0.05:
        _offsets, _read_at = tuple(map(float, _file.read_text().split())), now
    return _offsets
def _shifted():
    return _real() + _read()[0]
def _shifted_gettime(clock):
    return _clock_gettime(clock) + (_read()[1] if clock == time.CLOCK_BOOTTIME else 0.0)
time.time, time.clock_gettime = _shifted, _shifted_gettime
"""


class ShiftedClock:
    """A module that Python loads at its start and that shifts `time.time` and the time since the system's start.

    Any number of threads may use it.

    Args:
        directory: An existing directory for the module.
    """

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "offset"
        self._lock = threading.Lock()
        self._wrong_by = 0.0
        self._passed = 0.0
        self.settings = {"PYTHONPATH": str(directory)}
        self._write()
        (directory / "sitecustomize.py").write_text(_MODULE)

    @property
    def passed(self) -> float:
        """The seconds that `let_pass` has added."""
        return self._passed

    def shift(self, seconds: float) -> None:
        """Set the clock of running programs wrong from now on: the system has not run for longer.

        Args:
            seconds: By how much; positive is ahead.
        """
        with self._lock:
            self._wrong_by = seconds
            self._write()

    def let_pass(self, seconds: float) -> None:
        """Let time pass for running programs, as if the system had run meanwhile.

        Args:
            seconds: How much; added to what has passed before.
        """
        with self._lock:
            self._passed += seconds
            self._write()

    def _write(self) -> None:
        # A reader sees the old offsets or the new ones.
        new = self._offset.with_suffix(".new")
        new.write_text(f"{self._wrong_by + self._passed:.3f} {self._passed:.3f}")
        new.replace(self._offset)
