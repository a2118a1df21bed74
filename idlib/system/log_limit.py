"""Limits the rate of similar log lines: writes a few of each kind, then counts the rest."""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from idlib.system.token_bucket import TokenBucket

# Of each key.
BURST: Final = 20
SECONDS_PER_LINE: Final = 10.0
# For all keys together, because a stranger can cause lines of any key.
TOTAL_BURST: Final = 100
TOTAL_SECONDS_PER_LINE: Final = 2.0
MAX_KEYS: Final = 64
MAX_CHARACTERS: Final = 600
_NO_MEMBERS: Final[Mapping[str, object]] = MappingProxyType({})

# The level, the text, and what LOG_FORMAT=json adds.
_Line = tuple[int, str, Mapping[str, object]]


@dataclass(slots=True)
class _Kind:
    """The lines of one key: the rate limit, and what is held back.

    Args:
        bucket: The rate limit.
        held: How many are held back.
        held_since: When the first of those was held back.
        level: The level of the last of those.
        message: Its text, with placeholders for its arguments.
        args: Its arguments.
        members: Its members, with LOG_FORMAT=json.
    """

    bucket: TokenBucket
    held: int = field(default=0, init=False)
    held_since: float = field(default=0.0, init=False)
    level: int = field(default=logging.NOTSET, init=False)
    message: str = field(default="", init=False)
    args: tuple[object, ...] = field(default=(), init=False)
    members: Mapping[str, object] = field(default_factory=dict, init=False)

    def hold(
        self, now: float, level: int, message: str, args: tuple[object, ...], members: Mapping[str, object]
    ) -> None:
        if not self.held:
            self.held_since = now
        self.held += 1
        self.level, self.message, self.args, self.members = level, message, args, members

    def release(self, now: float) -> _Line:
        """Return one line for all that are held back."""
        text, members = _text(self.message, self.args), self.members
        if self.held > 1:
            text += f" (and {self.held - 1} more in the last {math.ceil(now - self.held_since)} s)"
            members = {**members, "more": self.held - 1}
        self.held, self.args, self.members = 0, (), _NO_MEMBERS
        return self.level, text, members


class LimitedLog:
    """Writes lines at a bounded rate, for each key and in total, and counts those that it holds back.

    What is held back of a key becomes one line as soon as the rate allows one: the last of them, followed by
    `(and N more in the last S s)`. With LOG_LEVEL=debug nothing is held back. Used by any number of threads.

    Args:
        log: Receives the lines.
        clock: Seconds that never go back.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}
        self._total = TokenBucket(TOTAL_BURST, TOTAL_SECONDS_PER_LINE)
        # For all keys beyond MAX_KEYS.
        self._others = _new_kind()

    def write(
        self, level: int, key: str, message: str, *args: object, members: Mapping[str, object] = _NO_MEMBERS
    ) -> None:
        """Write a line, or hold it back.

        Args:
            level: Of the logging module.
            key: Lines of equal keys share a rate.
            message: The text, with places for the arguments as the logging module has them.
            args: What goes there.
            members: What LOG_FORMAT=json adds to the line.
        """
        if not self._log.isEnabledFor(level):
            return
        if not self._log.isEnabledFor(logging.DEBUG):
            with self._lock:
                now = self._clock()
                kind = self._kind_of(key)
                # Keep the order: a line is held back if earlier ones are.
                if kind.held or not self._take(kind, now):
                    kind.hold(now, level, message, args, members)
                    return
        self._write_all([(level, _text(message, args), members)])

    def flush(self) -> None:
        """Write what is held back, as far as the rate allows; to be called about once a second."""
        with self._lock:
            now = self._clock()
            due = [kind.release(now) for kind in self._holding() if self._take(kind, now)]
        self._write_all(due)

    def finish(self) -> None:
        """Write what is held back, whatever the rate; to be called before the program ends."""
        with self._lock:
            now = self._clock()
            due = [kind.release(now) for kind in self._holding()]
        self._write_all(due)

    def _kind_of(self, key: str) -> _Kind:
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MAX_KEYS:
                return self._others
            kind = self._kinds[key] = _new_kind()
        return kind

    def _take(self, kind: _Kind, now: float) -> bool:
        return kind.bucket.has_token(now) and self._total.take(now) and kind.bucket.take(now)

    def _holding(self) -> list[_Kind]:
        """Return the keys of which lines are held back, those first that have been for longest."""
        holding = [kind for kind in (*self._kinds.values(), self._others) if kind.held]
        return sorted(holding, key=lambda kind: kind.held_since)

    def _write_all(self, lines: list[_Line]) -> None:
        for level, text, members in lines:
            self._log.log(level, "%s", text, extra={"members": members})


def _new_kind() -> _Kind:
    return _Kind(TokenBucket(BURST, SECONDS_PER_LINE))


def _text(message: str, args: tuple[object, ...]) -> str:
    text = message % args if args else message
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 3]}..."
