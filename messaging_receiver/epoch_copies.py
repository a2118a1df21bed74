"""Tells a lost private half from a second device with the same identity, by the epoch keys that appear in DNS."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

WATCHED_SECONDS: Final = 24 * 60 * 60


class Sighting(Enum):
    """What the keys in DNS whose private halves are elsewhere mean."""

    NONE = auto()
    FIRST = auto()
    SECOND_DEVICE = auto()


class ForeignKeys:
    """The epoch keys of this device's name in DNS whose private halves are not on this device.

    After DATA_PATH is restored there is one such key, until its record is replaced. If another appears within 24 hours,
    or the same one after it was gone for good, another device publishes keys for this name.

    Args:
        settled_seconds: For how long after a record was replaced an answer may still have it.
    """

    def __init__(self, settled_seconds: float) -> None:
        self._settled_seconds = settled_seconds
        self._seen: dict[str, int] = {}
        self._first_at = 0.0
        self._gone_at: float | None = None

    def note(self, foreign: Mapping[str, int], now: float) -> Sighting:
        """Return what the keys that are in DNS now mean.

        Args:
            foreign: When each such key is destroyed, by its id.
            now: The time, in seconds since the epoch.
        """
        if self._seen and now - self._first_at >= WATCHED_SECONDS:
            self._seen, self._gone_at = {}, None
        if not foreign:
            if self._seen and self._gone_at is None:
                self._gone_at = now
            return Sighting.NONE
        if not self._seen:
            self._seen, self._first_at = dict(foreign), now
            return Sighting.FIRST
        # An older one may be the answer of a name server that is behind.
        newest = max(self._seen.values())
        is_another = any(until > newest for key_id, until in foreign.items() if key_id not in self._seen)
        is_back = self._gone_at is not None and now - self._gone_at >= self._settled_seconds
        return Sighting.SECOND_DEVICE if is_another or is_back else Sighting.NONE
