"""Runs checks side by side within a time limit; one that fails or hangs hides no other."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from idlib.errors import IdlibError
from messaging_maintenance.checks.result import Item, skip

_LOG = logging.getLogger(__name__)

_MAX_AT_ONCE: Final = 24

Value = TypeVar("Value")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Part:
    """Checks that are made one after another.

    Args:
        ids: Of its items; each is reported as not checked if the part has no result.
        find: Returns the items.
    """

    ids: Sequence[str]
    find: Callable[[], Sequence[Item]]


class Once(Generic[Value]):
    """A value that several parts need, and that is computed by the first that asks for it.

    Args:
        compute: Returns the value, or raises an `IdlibError`, which each that asks for it gets.
    """

    def __init__(self, compute: Callable[[], Value]) -> None:
        self._compute = compute
        self._lock = threading.Lock()
        self._values: list[Value] = []
        self._error: IdlibError | None = None

    def get(self) -> Value:
        """Return the value; waits while another thread computes it."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._values:
                try:
                    self._values.append(self._compute())
                except IdlibError as error:
                    self._error = error
                    raise
            return self._values[0]


def run_parts(parts: Sequence[Part], seconds: float) -> list[Item]:
    """Return the items of all parts in order.

    Args:
        parts: Each runs in a thread of its own.
        seconds: How long all of them may take; what has no result by then is reported as not checked.
    """
    found: dict[int, Sequence[Item]] = {}

    def run(number: int, part: Part) -> None:
        found[number] = _items_of(part)

    # Daemons, so that a part that hangs does not keep the program from ending.
    threads = [
        threading.Thread(target=run, args=(number, part), name=part.ids[0], daemon=True)
        for number, part in enumerate(parts)
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no result within {seconds:g} s"
    return [
        item
        for number, part in enumerate(parts)
        for item in found.get(number) or [skip(identifier, late) for identifier in part.ids]
    ]


def in_parallel(calls: Sequence[Callable[[], Outcome]]) -> list[Outcome]:
    """Return what each call returns, in order, after all of them have ended.

    Args:
        calls: Each runs in another thread, ends by itself, and raises nothing.
    """
    outcomes: dict[int, Outcome] = {}
    waiting: queue.SimpleQueue[tuple[int, Callable[[], Outcome]]] = queue.SimpleQueue()
    for numbered in enumerate(calls):
        waiting.put(numbered)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                number, call = waiting.get_nowait()
                outcomes[number] = call()

    # Daemons, as above, and no more than a container with few processes allows.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_MAX_AT_ONCE, len(calls)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcomes[number] for number in range(len(calls))]


def _items_of(part: Part) -> Sequence[Item]:
    try:
        return part.find()
    except IdlibError as error:
        return [skip(identifier, error.fact, error.hint) for identifier in part.ids]
    except Exception as error:  # noqa: BLE001  # a fault in one check must not hide the others
        _LOG.exception("Internal error in the checks %s", ", ".join(part.ids))
        return [skip(identifier, f"internal error: {type(error).__name__}") for identifier in part.ids]
