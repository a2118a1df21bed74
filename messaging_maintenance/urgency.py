"""How urgent a problem of the device's identity is: how it is logged, how often, and whether it is unhealthy."""

import logging
import math
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from idlib.errors import ClockError, CredentialError, DiscoveryError, IdlibError, PublishingError

_DAY: Final = 24 * 3600
# A network may be out of reach for as long, without anything being wrong with the device.
_OUTAGE_SECONDS: Final = _DAY
_PATIENCE_SECONDS: Final = 3 * _DAY
_NEAR_SECONDS: Final = 7 * _DAY
_LAST_SECONDS: Final = _DAY
_OUTAGES: Final = (PublishingError, DiscoveryError, ClockError)


class Urgency(IntEnum):
    """How much a problem matters."""

    LATER = 1
    """It may solve itself, or there is time: healthy; a warning every week."""
    SOON = 2
    """An operator has to act: unhealthy; a warning every day."""
    NOW = 3
    """It has lasted, or time has run out: unhealthy; an error at every check."""

    @property
    def log_level(self) -> int:
        """The level of the log line."""
        return logging.ERROR if self is Urgency.NOW else logging.WARNING


_INTERVALS: Final[Mapping[Urgency, float]] = MappingProxyType(
    {Urgency.LATER: 7 * _DAY, Urgency.SOON: _DAY, Urgency.NOW: 0.0}
)


class DueError(IdlibError):
    """Something that only the operator can do is due; it matters when the deadline is near."""


def urgency_of(error: IdlibError, lasted: float, left: float | None, speed: int = 1) -> Urgency:
    """Return how urgent a problem is.

    Args:
        error: The problem.
        lasted: For how many seconds there has been one.
        left: How many seconds are left until the key is overdue or its certificate ends; None without such a time.
        speed: What durations are divided by; 1 except in tests.
    """
    lasted, left = lasted * speed, math.inf if left is None else left * speed
    if left <= _LAST_SECONDS:
        return Urgency.NOW
    if isinstance(error, DueError):
        return Urgency.SOON if left <= _NEAR_SECONDS else Urgency.LATER
    if lasted > _PATIENCE_SECONDS:
        return Urgency.NOW
    is_outage = isinstance(error, _OUTAGES) and not isinstance(error, CredentialError)
    return Urgency.LATER if is_outage and lasted <= _OUTAGE_SECONDS and left > _NEAR_SECONDS else Urgency.SOON


def is_to_be_logged(urgency: Urgency, since_logged: float, speed: int = 1) -> bool:
    """Return whether a problem that has not changed is to be logged again.

    Args:
        urgency: How urgent it is.
        since_logged: How many seconds ago it was logged.
        speed: What durations are divided by; 1 except in tests.
    """
    # A time in the future is that of a wrong clock.
    return not 0 <= since_logged * speed < _INTERVALS[urgency]
