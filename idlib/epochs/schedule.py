"""When a device creates its epoch keys, publishes them and destroys them; no I/O.

A key is created at a time T. Its record says that it starts at T - 1 hour, for senders whose clocks are slow, and that
its private half is destroyed at T + length + retention. At T + length the next key replaces it in DNS. A new identity
key starts a new epoch at once, so that a thief of the old one has nothing that later messages are encrypted to.

The clock decides only while it is trusted. In addition, a key is destroyed once the system has run for as long as the
key should live, whatever the clock shows: setting the clock back prolongs no key.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from idlib.errors import ConfigurationError

# A sender uses a key that lives for an hour more, and caches its record for up to an hour.
MIN_RETENTION_SECONDS: Final = 2 * 60 * 60
MAX_LIVING_KEYS: Final = 256
# How far before its creation a key starts.
LEAD_SECONDS: Final = 60 * 60
# The record's limit is 400 days, and its key starts an hour before it is created.
MAX_LIFE_SECONDS: Final = 399 * 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long an epoch key is used and kept.

    Args:
        length: For how many seconds it is published.
        retention: For how many seconds it is kept after that.

    Raises:
        ConfigurationError: Senders could not use the keys, too many would live at the same time, or they would live for
            too long.
    """

    length: int
    retention: int

    def __post_init__(self) -> None:
        if self.retention < MIN_RETENTION_SECONDS:
            raise ConfigurationError(
                f"EPOCH_RETENTION is {self.retention} s: senders use no key that is destroyed so soon; set it to 2h or"
                " more"
            )
        if self.life > MAX_LIFE_SECONDS:
            raise ConfigurationError(
                f"EPOCH_LENGTH and EPOCH_RETENTION are {self.life} s together; set them to 399 days or less"
            )
        if self.life > self.length * (MAX_LIVING_KEYS - 1):
            raise ConfigurationError(
                f"EPOCH_LENGTH is {self.length} s: more than {MAX_LIVING_KEYS} epoch keys would exist at the same time;"
                f" set EPOCH_LENGTH to {math.ceil(self.retention / (MAX_LIVING_KEYS - 2))}s or more, or EPOCH_RETENTION"
                " to less"
            )

    @property
    def life(self) -> int:
        """For how many seconds a key exists."""
        return self.length + self.retention

    def replaced_at(self, half: "Half") -> int:
        """Return when the next key replaces a key in DNS, in seconds since the epoch.

        A key that was created while the settings were others may be destroyed too early to be in use for the length.

        Args:
            half: Its private half.
        """
        return min(half.created_at + self.length, half.until - self.retention)


@dataclass(frozen=True, slots=True)
class Half:
    """What is known about the private half of an epoch key, without the half itself.

    Args:
        key_id: The key's id.
        start: When the key starts, in seconds since the epoch, by its record.
        until: When it is destroyed, in seconds since the epoch, by its record.
        born: For how many seconds the system had run when it was created, or will have run if it was created ahead of
            its time and the system keeps running.
        signer: The fingerprint of the identity key that signed its record first.
    """

    key_id: str
    start: int
    until: int
    born: float
    signer: bytes

    @property
    def created_at(self) -> int:
        """When it was created, in seconds since the epoch."""
        return self.start + LEAD_SECONDS

    def has_lived(self, elapsed: float) -> float:
        """Return for how many seconds the system has run since its creation, as far as that is known.

        Args:
            elapsed: For how many seconds the system has run. After a power failure it may be less than at the creation.
        """
        return max(0.0, elapsed - self.born)


@dataclass(frozen=True, slots=True)
class Now:
    """The time.

    Args:
        clock: What the clock shows, in seconds since the epoch; None while it is not trusted.
        elapsed: For how many seconds the system has run in all boots, whatever the clock shows.
    """

    clock: int | None
    elapsed: float


def overdue(halves: Collection[Half], now: Now) -> tuple[Half, ...]:
    """Return the halves that must be destroyed now.

    Args:
        halves: Those that exist.
        now: The time.
    """
    return tuple(half for half in halves if _is_overdue(half, now))


def current(halves: Collection[Half], now: Now, lifetimes: Lifetimes, signer: bytes) -> Half | None:
    """Return the half of the key that is in use, None if a new key must be created, or if the clock is not trusted.

    Args:
        halves: Those that exist.
        now: The time.
        lifetimes: How long a key is used and kept.
        signer: The fingerprint of the present identity key.
    """
    if now.clock is None:
        return None
    usable = [
        half
        for half in halves
        if half.signer == signer
        and not _is_overdue(half, now)
        and half.start <= now.clock < lifetimes.replaced_at(half)
    ]
    return max(usable, key=_age, default=None)


def period(now: int, lifetimes: Lifetimes) -> tuple[int, int]:
    """Return when a key that is created now starts, and when it is destroyed, in seconds since the epoch.

    Args:
        now: What the clock shows; it is trusted.
        lifetimes: How long the key is used and kept.
    """
    return now - LEAD_SECONDS, now + lifetimes.life


def _is_overdue(half: Half, now: Now) -> bool:
    if now.clock is not None and now.clock >= half.until:
        return True
    return half.has_lived(now.elapsed) >= half.until - half.created_at


def _age(half: Half) -> tuple[int, str]:
    return half.start, half.key_id
