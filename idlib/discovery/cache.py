"""Caches the results of look-ups within a memory limit; threads that look up the same key share one look-up.

Results and failures have separate memory, so that failures, which anyone can cause by inventing names, never evict
results.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from idlib.errors import BogusError, DiscoveryError, TemporaryDiscoveryError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Kept = TypeVar("Kept")

MIN_SECONDS: Final = 5.0
MAX_SECONDS: Final = 3600.0
MAX_SECONDS_OF_FAILURE: Final = 60.0
SECONDS_BETWEEN_RENEWALS: Final = 60.0
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_BYTES_OF_FAILURES: Final = 2 * 1024 * 1024
MAX_BYTES_OF_RENEWALS: Final = 2 * 1024 * 1024
# Measured with tracemalloc, and rounded up: an identity name, its table entry, and the objects around the value.
_BYTES_OF_AN_ENTRY: Final = 500
_BYTES_OF_AN_ERROR: Final = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """How much memory a cache may take, in bytes.

    Args:
        found: For what was found.
        failures: For failures.
        renewals: For the keys that were renewed within the last minute.
    """

    found: int = MAX_BYTES
    failures: int = MAX_BYTES_OF_FAILURES
    renewals: int = MAX_BYTES_OF_RENEWALS


_USUAL_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class CachedResult(Generic[Value]):
    """The result of a look-up.

    Args:
        value: What was found, or the error.
        lifetime: How many seconds it is valid. It is kept for at least 5 s and at most an hour, a failure at most a
            minute.
        size: About how many bytes of memory the value takes.
    """

    value: Value | DiscoveryError
    lifetime: float
    size: int = 0

    @classmethod
    def failed(cls, error: DiscoveryError) -> "CachedResult[Value]":
        """Return the outcome of a failed look-up, which is kept for a short time, so that a repair is noticed soon."""
        return cls(error.copy(), MIN_SECONDS, _BYTES_OF_AN_ERROR + len(error.fact) + len(error.hint))

    @property
    def is_verdict(self) -> bool:
        """Whether another look-up now would give the same answer; not if DNS is failing."""
        return not isinstance(self.value, BogusError | TemporaryDiscoveryError)

    @property
    def seconds(self) -> float:
        """How long it is kept."""
        longest = MAX_SECONDS_OF_FAILURE if isinstance(self.value, DiscoveryError) else MAX_SECONDS
        return min(max(self.lifetime, MIN_SECONDS), longest)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Kept]):
    """What is kept for a key, until when, and how many bytes it counts for."""

    kept: Kept
    until: float
    size: int


class _Memory(Generic[Key, Kept]):
    """Entries by key, bounded in bytes; the least recently used one is evicted first. The caller holds a lock.

    An expired entry stays until its space is needed, for `last_found` and `last_failure`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[Key, _Entry[Kept]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> _Entry[Kept] | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def keep(self, key: Key, kept: Kept, until: float, size: int) -> None:
        self.drop(key)
        entry = _Entry(kept, until, _BYTES_OF_AN_ENTRY + size)
        self._entries[key] = entry
        self.bytes += entry.size
        while self.bytes > self._max_bytes and len(self) > 1:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Evict the least recently used entry."""
        self.drop(next(iter(self._entries)))

    def drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size


class Cache(Generic[Key, Value]):
    """Outcomes of look-ups by key, bounded in bytes, for any number of threads.

    Args:
        clock: Seconds that never run backwards.
        is_trusted: Returns if a key's outcomes are evicted only after all others; raises nothing.
        limits: How much memory it may take.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        is_trusted: Callable[[Key], bool] = lambda _: False,
        limits: Limits = _USUAL_LIMITS,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._is_trusted = is_trusted
        self._changed = threading.Condition()
        self._found: _Memory[Key, Value] = _Memory(limits.found)
        self._found_of_trusted: _Memory[Key, Value] = _Memory(limits.found)
        self._failures: _Memory[Key, DiscoveryError] = _Memory(limits.failures)
        # Why a renewal did not reach a verdict; None if it did.
        self._renewals: _Memory[Key, DiscoveryError | None] = _Memory(limits.renewals)
        self._being_asked: set[Key] = set()

    def peek(self, key: Key) -> Value | DiscoveryError | None:
        """Return what is cached for a key: what was found, or a copy of the error; None if nothing is."""
        with self._changed:
            kept = self._kept(key)
        return kept.copy() if isinstance(kept, DiscoveryError) else kept

    def last_found(self, key: Key) -> Value | None:
        """Return what was last found, even if expired; None after a later verdict or if it was evicted."""
        with self._changed:
            entry = self._found_of_trusted.get(key) or self._found.get(key)
        return None if entry is None else entry.kept

    def last_failure(self, key: Key) -> DiscoveryError | None:
        """Return the last failure, even if expired; None if something was found since or it was evicted."""
        with self._changed:
            entry = self._failures.get(key)
        return None if entry is None else entry.kept

    def was_renewed(self, key: Key) -> bool:
        """Return whether the key was renewed within the last minute, with a verdict."""
        with self._changed:
            renewal = self._renewals.get(key)
            return renewal is not None and renewal.kept is None and self._clock() < renewal.until

    def get(self, key: Key, ask: Callable[[], CachedResult[Value]]) -> Value:
        """Return what is cached for a key, or ask: one thread asks, and others with the same key wait for it.

        Raises:
            DiscoveryError: The look-up failed, now or before.
        """
        with self._changed:
            while (kept := self._kept(key)) is None and key in self._being_asked:
                self._changed.wait()
            if kept is None:
                self._being_asked.add(key)
        return _value(self._ask(key, ask) if kept is None else kept)

    def renew(self, key: Key, ask: Callable[[], CachedResult[Value]]) -> Value:
        """Ask again, at most once a minute for each key; in between, return what is cached.

        If DNS was failing when it was asked again, its error is raised for the rest of the minute, and what was found
        before stays in the cache.

        Raises:
            DiscoveryError: The look-up failed, now or before.
        """
        with self._changed:
            while key in self._being_asked:
                self._changed.wait()
            renewal = self._renewals.get(key)
            if renewal is None or self._clock() >= renewal.until:
                self._being_asked.add(key)
                renewal = None
        if renewal is None:
            return _value(self._ask(key, ask, self._note_renewal))
        return self.get(key, ask) if renewal.kept is None else _value(renewal.kept)

    def _ask(
        self,
        key: Key,
        ask: Callable[[], CachedResult[Value]],
        note: Callable[[Key, CachedResult[Value]], None] = lambda _key, _outcome: None,
    ) -> Value | DiscoveryError:
        try:
            outcome = ask()
            found = self._found_of_trusted if self._is_trusted(key) else self._found
            with self._changed:
                if outcome.is_verdict or self._kept(key) is None:
                    self._keep(key, outcome, found)
                note(key, outcome)
            return outcome.value
        finally:
            with self._changed:
                self._being_asked.discard(key)
                self._changed.notify_all()

    def _note_renewal(self, key: Key, outcome: CachedResult[Value]) -> None:
        until = self._clock() + SECONDS_BETWEEN_RENEWALS
        if isinstance(outcome.value, DiscoveryError) and not outcome.is_verdict:
            self._renewals.keep(key, outcome.value, until, outcome.size)
        else:
            self._renewals.keep(key, None, until, 0)

    def _kept(self, key: Key) -> Value | DiscoveryError | None:
        for memory in (self._found_of_trusted, self._found, self._failures):
            entry = memory.get(key)
            if entry is not None and self._clock() < entry.until:
                return entry.kept
        return None

    def _keep(self, key: Key, outcome: CachedResult[Value], found: _Memory[Key, Value]) -> None:
        until = self._clock() + outcome.seconds
        if isinstance(outcome.value, DiscoveryError):
            if outcome.is_verdict:
                self._found.drop(key)
                self._found_of_trusted.drop(key)
            self._failures.keep(key, outcome.value, until, outcome.size)
            return
        for memory in (self._failures, self._found, self._found_of_trusted):
            memory.drop(key)
        found.keep(key, outcome.value, until, outcome.size)
        while len(self._found) > 1 and self._found.bytes + self._found_of_trusted.bytes > self._limits.found:
            self._found.drop_oldest()


def _value(kept: Value | DiscoveryError) -> Value:
    """Return what was found; raise a copy of an error, because an error grows each time that it is raised."""
    if isinstance(kept, DiscoveryError):
        raise kept.copy()
    return kept
