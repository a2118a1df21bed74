"""What is stored about the clock across restarts, as one JSON text; missing or damaged values get their defaults."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final, Protocol, Self

FACT: Final = "clock"


class ClockStore(Protocol):
    """Stores what is known about the clock. Every method may raise `StoreError`; in that case nothing has changed."""

    @property
    def latest_time(self) -> int:
        """The recorded time, in seconds since the epoch; 0 if there is none."""

    @property
    def boot(self) -> str:
        """The boot of the system in which the clock was last known to be set; empty if none was stored."""

    def get_fact(self, name: str) -> str | None:
        """Return the value stored under a name, or None if there is none.

        Args:
            name: The name of the fact.
        """

    def set_fact(self, name: str, value: str) -> None:
        """Store a value under a name, replacing an earlier one; it is durable when this returns.

        Args:
            name: The name of the fact.
            value: The value.
        """

    def note_time(self, now: int) -> None:
        """Record a time, unless a later one is recorded already.

        Args:
            now: Seconds since the epoch.
        """

    def reset_time(self, now: int) -> None:
        """Replace the recorded time, even if it is later.

        Args:
            now: Seconds since the epoch.
        """

    def trust_clock_since(self, boot: str) -> None:
        """Store the boot of the system in which the clock is known to be set.

        Args:
            boot: The unique identifier of this boot.
        """

    def lower_floor(self, issued_at: int) -> bool:
        """Accept messages issued after a time, even if they may have been printed and forgotten.

        Args:
            issued_at: The time, in seconds since the epoch.

        Returns:
            Whether such messages were refused.
        """


class Doubt(StrEnum):
    """Why the clock is not trusted although the time it shows is possible."""

    NONE = ""
    AHEAD = "ahead"
    MOVED = "moved"


@dataclass(slots=True)
class Trial:
    """How long the clock has run steadily.

    Args:
        least: The time that the clock showed at the start, or an earlier one if it is slow, in seconds since the epoch.
        begun_at: When the trial started, in seconds for which the system has run.
        seconds: How long the clock has been watched since.
        synchronized: For how many of these seconds the kernel has reported synchronization.
        was_synchronized: Whether the kernel has reported synchronization at all.
    """

    least: float = 0.0
    begun_at: float = 0.0
    seconds: float = 0.0
    synchronized: float = 0.0
    was_synchronized: bool = False

    def add(self, seconds: float, synchronized: float) -> None:
        """Extend the trial.

        Args:
            seconds: How long the clock was watched since the last call.
            synchronized: For how many of these seconds the kernel reported synchronization.
        """
        self.seconds += seconds
        self.synchronized += synchronized

    def least_at(self, elapsed: float) -> float:
        """Return the earliest time that the clock shows if it is as accurate as at the start of the trial.

        Args:
            elapsed: How many seconds the system has run.
        """
        return self.least + elapsed - self.begun_at

    def has_lasted(self, seconds: float) -> bool:
        """Return whether the trial is long enough.

        Only synchronized seconds count, unless the kernel has never reported synchronization.

        Args:
            seconds: The length required.
        """
        return (self.synchronized if self.was_synchronized else self.seconds) >= seconds


@dataclass(slots=True)
class ClockFacts:
    """What is known about the clock.

    Args:
        boot: The boot of the system in which this was written.
        up: How many seconds the system had run in that boot when this was written.
        elapsed: How many seconds the system had run in all boots when this was written.
        wall: The time that the clock showed when it was last watched, in seconds since the epoch; 0 if it never was.
        watched_at: When the clock was last watched, in seconds for which the system has run.
        offset: How far the clock is ahead of the boot clock, in the present boot; None if it was not trusted yet.
        shown: The time that the clock showed when it was last trusted, in seconds since the epoch; 0 if it never was.
        trusted_at: When the clock was last trusted, in seconds for which the system has run; None if it never was.
        doubt: Why the clock is not trusted.
        is_in_doubt: Whether the clock was distrusted when it was last watched.
        trial: How long the clock has run steadily, not counting the time for which the system was off.
        latest_trial: The same, since the system was last off or the clock jumped.
    """

    boot: str = ""
    up: float = 0.0
    elapsed: float = 0.0
    wall: float = 0.0
    watched_at: float = 0.0
    offset: float | None = None
    shown: float = 0.0
    trusted_at: float | None = None
    doubt: Doubt = Doubt.NONE
    is_in_doubt: bool = False
    trial: Trial = field(default_factory=Trial)
    latest_trial: Trial = field(default_factory=Trial)

    @classmethod
    def from_text(cls, text: str | None) -> Self:
        """Parse what `str` returned; values that cannot be read get their defaults.

        Args:
            text: The text, or None if there is none.
        """
        values = _mapping(text)
        return cls(
            boot=_text(values, "boot"),
            up=_number(values, "up"),
            elapsed=_number(values, "elapsed"),
            wall=_number(values, "wall"),
            watched_at=_number(values, "watched_at"),
            offset=_number_or_none(values, "offset"),
            shown=_number(values, "shown"),
            trusted_at=_number_or_none(values, "trusted_at"),
            doubt=_doubt(values),
            is_in_doubt=values.get("is_in_doubt") is True,
            trial=_trial(values, "trial"),
            latest_trial=_trial(values, "latest_trial"),
        )

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def _trial(values: Mapping[str, object], name: str) -> Trial:
    found = values.get(name)
    kept: Mapping[str, object] = found if isinstance(found, dict) else {}
    return Trial(
        _number(kept, "least"),
        _number(kept, "begun_at"),
        _number(kept, "seconds"),
        _number(kept, "synchronized"),
        kept.get("was_synchronized") is True,
    )


def _mapping(text: str | None) -> Mapping[str, object]:
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _number(values: Mapping[str, object], name: str) -> float:
    return _number_or_none(values, name) or 0.0


def _number_or_none(values: Mapping[str, object], name: str) -> float | None:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _doubt(values: Mapping[str, object]) -> Doubt:
    try:
        return Doubt(_text(values, "doubt"))
    except ValueError:
        return Doubt.NONE
