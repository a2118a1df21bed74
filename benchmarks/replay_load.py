"""A replay memory in use: many messages of a few senders, and how long an asker waits while some are forgotten."""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from idlib.storage import Printed, ReplayEntry, ReplayStore

NOW: Final = 1_800_000_000
DAYS: Final = 14
DAY: Final = 24 * 3600
GROUP: Final = 2000
SENDERS: Final = 8
_KEY: Final = bytes(91)


@dataclass(frozen=True, slots=True)
class Tidied:
    """How a pass went that forgets, and what a thread that asks noticed of it.

    Args:
        seconds: How long it took.
        portions: The seconds of each portion.
        processor: The CPU seconds of each portion.
        longest_wait: The longest that a look-up took meanwhile, in seconds.
    """

    seconds: float
    portions: tuple[float, ...]
    processor: tuple[float, ...]
    longest_wait: float


def sender_of(number: int, senders: int) -> str:
    """Return the sender of a message.

    Args:
        number: The message's number.
        senders: How many senders there are.
    """
    return f"sensor-{number % senders}._device.example.com"


def entry_of(number: int, entries: int, senders: int) -> ReplayEntry:
    """Return what identifies a message; those with the first numbers were issued first, `DAYS` before `NOW`.

    Args:
        number: The message's number.
        entries: How many messages there are.
        senders: How many senders there are.
    """
    sender = sender_of(number, senders)
    identifier = hashlib.sha256(f"{sender}\0{number}".encode()).digest()[:16]
    return ReplayEntry(sender, identifier, NOW - DAYS * DAY + number * DAYS * DAY // entries)


def fill(memory: ReplayStore, entries: int, senders: int) -> None:
    """Remember many messages.

    Args:
        memory: Where.
        entries: How many messages.
        senders: How many senders have sent them.
    """
    for first in range(0, entries, GROUP):
        group = [entry_of(number, entries, senders) for number in range(first, min(first + GROUP, entries))]
        memory.remember(printed(group), group[-1].issued_at or 0)


def printed(entries: Iterable[ReplayEntry]) -> list[Printed]:
    """Return what is remembered of messages.

    Args:
        entries: What identifies them.
    """
    return [Printed(one, "example.com", _KEY) for one in entries]


def tidy(memory: ReplayStore, now: int) -> Tidied:
    """Tidy until nothing is left to do while another thread asks.

    Args:
        memory: The memory.
        now: Seconds since the epoch.
    """
    waits: list[float] = []
    stopping = threading.Event()
    thread = threading.Thread(target=lambda: waits.extend(_look_up_until(memory, stopping)))
    thread.start()
    begun = time.perf_counter()
    portions, processor = [], []
    more = True
    while more:
        at, used = time.perf_counter(), time.thread_time()
        more = memory.tidy(now).more
        portions.append(time.perf_counter() - at)
        processor.append(time.thread_time() - used)
        time.sleep(0.001)
    seconds = time.perf_counter() - begun
    stopping.set()
    thread.join()
    return Tidied(seconds, tuple(portions), tuple(processor), max(waits))


def _look_up_until(memory: ReplayStore, stopping: threading.Event) -> Iterator[float]:
    while not stopping.is_set():
        begun = time.perf_counter()
        memory.standing(sender_of(0, 1))
        yield time.perf_counter() - begun
        time.sleep(0.001)
