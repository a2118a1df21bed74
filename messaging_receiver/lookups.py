"""Looks names up in DNS in threads of its own, so that slow servers of one zone do not delay other zones' messages.

No request is rejected: each name waits for its turn. While a zone's servers answer, more of its names are looked up at
a time.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from idlib.discovery import Found
from idlib.errors import BogusError, DiscoveryError, TemporaryDiscoveryError
from idlib.names import IdentityName

_LOG = logging.getLogger(__name__)

WORKERS_FOR_TRUSTED_NAMES: Final = 8
WORKERS_FOR_OTHER_NAMES: Final = 32
# Look-ups of one zone at a time, even if its servers do not answer.
LOOKUPS_OF_A_ZONE: Final = 4
_IDLE_SECONDS: Final = 30.0
_MAX_FAILED_DOMAINS: Final = 8

T = TypeVar("T")
# None if the look-up met an internal error.
LookupOutcome = Found | DiscoveryError | None


@dataclass(frozen=True, slots=True)
class LookupRequest(Generic[T]):
    """A name to be looked up.

    Args:
        name: The name whose records are needed.
        zone: The zone of the name, as far as it is known.
        domain: The registered domain that the zone belongs to; its zones share a limit.
        ask: Looks the name up and caches the outcome.
        is_retry: Whether an earlier look-up of the name failed; such names come after the others of their zone.
    """

    name: IdentityName
    zone: str
    domain: str
    ask: Callable[[IdentityName], T]
    is_retry: bool = False


class _Zone:
    """The requests for one zone, by name. Uses little memory, because strangers can make up any number of zones."""

    __slots__ = ("new", "places", "retries", "under_way")

    def __init__(self) -> None:
        self.new: dict[IdentityName, LookupRequest[Any]] = {}
        self.retries: dict[IdentityName, LookupRequest[Any]] | None = None
        self.under_way = 0
        self.places = LOOKUPS_OF_A_ZONE

    def add(self, request: LookupRequest[Any]) -> None:
        if not request.is_retry:
            self.new[request.name] = request
        elif self.retries is None:
            self.retries = {request.name: request}
        else:
            self.retries[request.name] = request

    def take(self) -> LookupRequest[Any] | None:
        waiting = self.new or self.retries
        return waiting.pop(next(iter(waiting))) if waiting else None

    def is_waiting(self) -> bool:
        return bool(self.new or self.retries)

    def discard(self, name: IdentityName) -> bool:
        return self.new.pop(name, None) is not None or bool(self.retries and self.retries.pop(name, None))

    def is_done(self) -> bool:
        return not (self.is_waiting() or self.under_way)


class Lookups(Generic[T]):
    """A limited number of threads that look names up. Zones take turns, and no zone uses all threads.

    Args:
        answered: Called by one of the threads with each name that was looked up, and the outcome.
        workers: The maximum number of threads. No domain uses more than three quarters of them.
    """

    def __init__(self, answered: Callable[[IdentityName, T | DiscoveryError | None], None], workers: int) -> None:
        self._answered = answered
        self._workers = workers
        self._spare = workers // 4
        self._changed = threading.Condition()
        self._domains: dict[str, dict[str, _Zone]] = {}
        self._busy: Counter[str] = Counter()
        self._threads = 0
        self._idle = 0
        self._answered_at = time.monotonic()
        self._failed_domains: set[str] = set()

    @property
    def answered_at(self) -> float:
        """When DNS last answered a request, on the monotonic clock; before the first answer, the time of the start."""
        return self._answered_at

    @property
    def failed_domains(self) -> frozenset[str]:
        """Registered domains with look-ups that have failed since then; at most 8 of them."""
        with self._changed:
            return frozenset(self._failed_domains)

    def ask(self, request: LookupRequest[T]) -> None:
        """Look a name up as soon as a thread is free for it.

        Args:
            request: For a name that has no other pending request.
        """
        with self._changed:
            zones = self._domains.setdefault(request.domain, {})
            zone = zones.get(request.zone)
            if zone is None:
                zone = zones[request.zone] = _Zone()
            zone.add(request)
            if self._idle:
                self._changed.notify()
            else:
                self._start_thread()

    def cancel(self, request: LookupRequest[T]) -> bool:
        """Cancel a request that no message needs any more; return False if it is already under way.

        Args:
            request: The request that was passed to `ask`.
        """
        with self._changed:
            zones = self._domains.get(request.domain, {})
            zone = zones.get(request.zone)
            if zone is None or not zone.discard(request.name):
                return False
            self._forget_if_done(request, zones, zone)
            return True

    def _work(self) -> None:
        while (request := self._take()) is not None:
            outcome: T | DiscoveryError | None = None
            try:
                outcome = request.ask(request.name)
            except DiscoveryError as error:
                outcome = error
            except Exception:  # noqa: BLE001  # logged; the messages that need it are refused
                _LOG.exception("Internal error while looking up %s", request.name)
            self._end(request, is_answered=not isinstance(outcome, BogusError | TemporaryDiscoveryError))
            self._answered(request.name, outcome)

    def _take(self) -> LookupRequest[T] | None:
        with self._changed:
            while True:
                request = self._next()
                if request is not None:
                    # Otherwise the number of threads would stay as it was when the first requests came.
                    if self._busy.total() == self._threads and self._turn() is not None:
                        self._start_thread()
                    return request
                self._idle += 1
                is_woken = self._changed.wait(_IDLE_SECONDS)
                self._idle -= 1
                if not is_woken:
                    # A request may have come after the wait ended, while this thread still counted as idle.
                    request = self._next()
                    self._threads -= request is None
                    return request

    def _start_thread(self) -> None:
        if self._threads < self._workers:
            self._threads += 1
            threading.Thread(target=self._work, name="Lookup", daemon=True).start()

    def _next(self) -> LookupRequest[T] | None:
        """Return the next request and count it as under way; domains take turns, and so do the zones of a domain."""
        turn = self._turn()
        if turn is None:
            return None
        domain, name = turn
        # Moved to the end, so that the others come next.
        zones = self._domains[domain] = self._domains.pop(domain)
        zone = zones[name] = zones.pop(name)
        zone.under_way += 1
        self._busy[domain] += 1
        return zone.take()

    def _turn(self) -> tuple[str, str] | None:
        """Return the domain and the zone whose request comes next; None if no request may be under way now."""
        free = self._workers - self._busy.total()
        for domain, zones in self._domains.items():
            if self._busy[domain] >= self._workers - self._spare:
                continue
            for name, zone in zones.items():
                is_within_share = zone.under_way < LOOKUPS_OF_A_ZONE or free > self._spare
                if zone.under_way < zone.places and is_within_share and zone.is_waiting():
                    return domain, name
        return None

    def _end(self, request: LookupRequest[T], *, is_answered: bool) -> None:
        with self._changed:
            zones = self._domains[request.domain]
            zone = zones[request.zone]
            zone.under_way -= 1
            self._busy[request.domain] -= 1
            if is_answered:
                self._answered_at = time.monotonic()
                self._failed_domains.clear()
                zone.places = min(zone.places + 1, self._workers - self._spare)
            else:
                if len(self._failed_domains) < _MAX_FAILED_DOMAINS:
                    self._failed_domains.add(request.domain)
                zone.places = LOOKUPS_OF_A_ZONE
            self._forget_if_done(request, zones, zone)
            self._changed.notify()

    def _forget_if_done(self, request: LookupRequest[T], zones: dict[str, _Zone], zone: _Zone) -> None:
        if zone.is_done():
            del zones[request.zone]
            if not zones:
                del self._domains[request.domain]
                self._busy.pop(request.domain, None)
