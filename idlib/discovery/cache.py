"""What was found, kept for as long as it holds, and one question where several threads want to know the same."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from idlib.errors import BogusError, DiscoveryError, TemporaryDiscoveryError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

MIN_SECONDS: Final = 5.0
MAX_SECONDS: Final = 3600.0
MAX_SECONDS_OF_FAILURE: Final = 60.0
_SECONDS_BETWEEN_RENEWALS: Final = 60.0
_MAX_ENTRIES: Final = 1024
_MAX_WEIGHT: Final = 4096


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Value]):
    """What came of a question.

    Args:
        value: What was found, or why nothing was.
        lifetime: For how many seconds it holds; it is kept for 5 s at least, and an hour, a failure a minute, at most.
        weight: How much room it takes beside others.
    """

    value: Value | DiscoveryError
    lifetime: float
    weight: int = 1

    @classmethod
    def failed(cls, error: DiscoveryError) -> "Outcome[Value]":
        """Return the outcome of a question that failed: kept for a short while, so that what is mended is seen soon."""
        return cls(_copy(error), MIN_SECONDS)

    @property
    def is_verdict(self) -> bool:
        """Whether asking again at once would say nothing else: not so where DNS was out of order."""
        return not _is_disorder(self.value)

    @property
    def seconds(self) -> float:
        """For how long it is kept."""
        longest = MAX_SECONDS_OF_FAILURE if isinstance(self.value, DiscoveryError) else MAX_SECONDS
        return min(max(self.lifetime, MIN_SECONDS), longest)

    def get(self) -> Value:
        """Return what was found.

        Raises:
            DiscoveryError: Nothing was.
        """
        value = self.peek()
        if isinstance(value, DiscoveryError):
            raise value
        return value

    def peek(self) -> Value | DiscoveryError:
        """Return what was found, or a new copy of the error: one that is raised repeatedly piles up frames."""
        return _copy(self.value) if isinstance(self.value, DiscoveryError) else self.value


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    outcome: Outcome[Value]
    until: float


class Cache(Generic[Key, Value]):
    """Outcomes of questions by their keys, bounded in number and weight, for any number of threads.

    Args:
        clock: Seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._weight = 0
        self._renewals: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._being_asked: set[Key] = set()

    def peek(self, key: Key) -> Outcome[Value] | None:
        """Return the outcome that is kept for a key, or None."""
        with self._changed:
            return self._kept(key)

    def get(self, key: Key, ask: Callable[[], Outcome[Value]]) -> Outcome[Value]:
        """Return the outcome that is kept for a key, or ask: one thread does, others with the same key wait for it."""
        with self._changed:
            while (kept := self._kept(key)) is None and key in self._being_asked:
                self._changed.wait()
            if kept is not None:
                return kept
            self._being_asked.add(key)
        return self._ask(key, ask)

    def renew(self, key: Key, ask: Callable[[], Outcome[Value]]) -> Outcome[Value]:
        """Ask anew, at most once a minute a key; between, return what is kept.

        Where DNS was out of order when it was asked anew, that is what is returned for the rest of the minute, while
        what was kept before stays.
        """
        with self._changed:
            while key in self._being_asked:
                self._changed.wait()
            renewal = self._renewals.get(key)
            if renewal is None or self._clock() >= renewal.until:
                self._being_asked.add(key)
                renewal = None
        if renewal is None:
            return self._ask(key, ask, self._note_renewal)
        return self.get(key, ask) if renewal.outcome.is_verdict else renewal.outcome

    def _ask(
        self,
        key: Key,
        ask: Callable[[], Outcome[Value]],
        note: Callable[[Key, Outcome[Value]], None] = lambda _key, _outcome: None,
    ) -> Outcome[Value]:
        try:
            outcome = ask()
            with self._changed:
                if outcome.is_verdict or self._kept(key) is None:
                    self._keep(key, outcome)
                note(key, outcome)
            return outcome
        finally:
            with self._changed:
                self._being_asked.discard(key)
                self._changed.notify_all()

    def _note_renewal(self, key: Key, outcome: Outcome[Value]) -> None:
        self._renewals[key] = _Entry(outcome, self._clock() + _SECONDS_BETWEEN_RENEWALS)
        self._renewals.move_to_end(key)
        if len(self._renewals) > _MAX_ENTRIES:
            self._renewals.popitem(last=False)

    def _kept(self, key: Key) -> Outcome[Value] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock() >= entry.until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.outcome

    def _keep(self, key: Key, outcome: Outcome[Value]) -> None:
        self._drop(key)
        self._entries[key] = _Entry(outcome, self._clock() + outcome.seconds)
        self._weight += outcome.weight
        while len(self._entries) > 1 and (len(self._entries) > _MAX_ENTRIES or self._weight > _MAX_WEIGHT):
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry.outcome.weight


def _is_disorder(value: object) -> bool:
    return isinstance(value, BogusError | TemporaryDiscoveryError)


def _copy(error: DiscoveryError) -> DiscoveryError:
    return type(error)(error.fact, error.hint)
