"""What the system says of its clock: whether anybody has set it since the system was started.

A Raspberry Pi has no clock that runs without power. It goes on from the time at which it was last on, so that its clock
looks right and is late by as long as it was off, until the first answer of a time server.
"""

import ctypes
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# What adjtimex(2) returns, besides -1.
_CLOCK_IS_NOT_SYNCHRONIZED: Final = 5
# More than struct timex takes on any system; zeros ask for nothing to be changed.
_TIMEX_OCTETS: Final = 512


def boot() -> str:
    """Return what tells this start of the system from every other, an empty text where the system does not say it."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def is_synchronized() -> bool:
    """Return whether the kernel knows of a time source that the clock follows, as adjtimex(2) has it."""
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS)))
    except (AttributeError, OSError):
        return False
    return 0 <= state < _CLOCK_IS_NOT_SYNCHRONIZED
