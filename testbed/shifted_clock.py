"""A clock that shows a different time to the programs of one device."""

from pathlib import Path
from typing import Final

# The file is read at most 20 times a second, so that a program that reads the clock often is not slowed down.
_MODULE: Final = """\
import pathlib, time
_real, _monotonic, _file = time.time, time.monotonic, pathlib.Path(__file__).with_name("offset")
_offset, _read_at = 0.0, -1.0
def _shifted():
    global _offset, _read_at
    now = _monotonic()
    if now >= _read_at + 0.05:
        _offset, _read_at = float(_file.read_text() or _offset), now
    return _real() + _offset
time.time = _shifted
"""


class ShiftedClock:
    """A module that Python loads at its start and that shifts `time.time`.

    Args:
        directory: An existing directory for the module.
    """

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "offset"
        self.settings = {"PYTHONPATH": str(directory)}
        self.shift(0)
        (directory / "sitecustomize.py").write_text(_MODULE)

    def shift(self, seconds: float) -> None:
        """Shift the clock of running programs from now on.

        Args:
            seconds: By how much; positive is ahead.
        """
        self._offset.write_text(str(seconds))
