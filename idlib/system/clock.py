"""Whether the clock of the system has been set since it started, and for how long the system has run.

A Raspberry Pi has no clock that runs without power. After a start its clock continues from the time of the last
shutdown: it looks right but is late by the time without power, until the first answer of a time server.
"""

import time
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# A return value of adjtimex(2).
_CLOCK_IS_NOT_SYNCHRONIZED: Final = 5
# Larger than struct timex on any system; zeros change nothing.
_TIMEX_BYTES: Final = 512


def boot() -> str:
    """Return the identifier of this start of the system, or an empty text if the system has none."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def boot_time() -> float:
    """Return seconds since the system was started, including those in which it was suspended; they never jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_synchronized() -> bool:
    """Return whether adjtimex(2) reports that the clock is synchronized to a time source."""
    # Imported late, because most programs only need the identifier of the start.
    import ctypes

    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (AttributeError, OSError):
        return False
    return 0 <= state < _CLOCK_IS_NOT_SYNCHRONIZED
