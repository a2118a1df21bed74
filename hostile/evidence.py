"""The results of an attack, and which of them are faults."""

import math
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from chaos.delivery_report import DeliveryReport
from hostile import bounds
from testbed.strangers import FORGED

_SHOWN: Final = 10
_HUNDREDTHS: Final = 100


@dataclass(frozen=True, slots=True)
class Measurement:
    """The service for known senders during one kind of junk.

    Args:
        name: The kind of junk.
        capacity: How many of it the receiver handles a second; None if it did not finish even a few.
        rate: How many were sent a second.
        delays: Seconds from the broker's acknowledgement of each known sender's message to the printed line;
            infinite for each that was not printed in time.
    """

    name: str
    capacity: float | None
    rate: float
    delays: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median delay, in seconds; infinite if nothing was measured."""
        return statistics.median(self.delays) if self.delays else math.inf

    @property
    def high(self) -> float:
        """The 99th percentile of the delays, in seconds, rounded up to a measured one; infinite if there is none."""
        if not self.delays:
            return math.inf
        return sorted(self.delays)[math.ceil(len(self.delays) * 99 / _HUNDREDTHS) - 1]


@dataclass(frozen=True, slots=True)
class Balance:
    """What one run of the receiver has counted.

    Args:
        counted: The numbers in its last log line.
        waiting_at_start: How many messages waited when it started.
        waiting: How many wait now; None if this was not logged.
    """

    counted: Counter[str]
    waiting_at_start: int
    waiting: int | None

    def __str__(self) -> str:
        return (
            f"received {self.counted['received']} + waiting at start {self.waiting_at_start}, and"
            f" printed {self.counted['printed']} + refused {self.counted['refused']} + waiting {self.waiting}"
        )

    @property
    def is_even(self) -> bool:
        """Whether each message is counted once."""
        if self.waiting is None:
            return False
        settled = self.counted["printed"] + self.counted["refused"] + self.waiting
        return self.counted["received"] + self.waiting_at_start == settled


def balance_of(counted: Counter[str], waiting_at_start: int) -> Balance:
    """Return the balance of a run that has ended.

    Args:
        counted: The numbers in its last log line.
        waiting_at_start: How many messages waited when it started.
    """
    return Balance(counted, waiting_at_start, counted.get("waiting"))


@dataclass(slots=True)
class Evidence:
    """What was observed; a part that was not checked keeps its default and is not a fault.

    Args:
        delivery: What was acknowledged, and what was printed in each run.
        measurements: One for each kind of junk.
        stuck: The junk after which known senders' messages were no longer printed.
        new_names: How many new names of one zone sent a genuine message, and how many of these were printed.
        receipts: How many a known sender requested while strangers did too, and how many it received.
        balances: The balances of the runs that ended cleanly.
        unexpected_ends: How the receiver ended without a request to end.
        memory_kills: How often the kernel killed one of its processes because of the memory limit.
        peak_memory: In bytes, resident.
        peak_disk: In bytes.
        peak_log_rate: In bytes a second.
        idle_share: Of a processor, after the attack.
        is_caged: Whether it was under its container's limits.
    """

    delivery: DeliveryReport
    measurements: list[Measurement] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    new_names: tuple[int, int] = (0, 0)
    receipts: tuple[int, int] = (0, 0)
    balances: list[Balance] = field(default_factory=list)
    unexpected_ends: list[str] = field(default_factory=list)
    memory_kills: int = 0
    peak_memory: int = 0
    peak_disk: int = 0
    peak_log_rate: float = 0.0
    idle_share: float = 0.0
    is_caged: bool = True

    def faults(self) -> tuple[str, ...]:
        """Return a sentence for each broken promise of the receiver."""
        return (*self._faults_of_books(), *self._faults_of_delays(), *self._faults_of_cost(), *self._faults_of_counts())

    def _faults_of_books(self) -> Iterator[str]:
        delivery = self.delivery
        if not delivery.promises:
            yield "no message of a known sender was acknowledged, so nothing was tested"
        if delivery.lost:
            shown = ", ".join(promise.text for promise in delivery.lost[:_SHOWN])
            yield f"{len(delivery.lost)} of {len(delivery.promises)} acknowledged known messages were lost: {shown}"
        if delivery.replayed:
            yield f"{delivery.replayed} lines were printed twice, and no kill explains that"
        if delivery.repeated > delivery.kills * bounds.REPEATED_BY_A_KILL:
            yield f"{delivery.repeated} lines were repeated because of {delivery.kills} kills"
        forged = sum(FORGED in text for run in delivery.runs for text in run.printed)
        if forged:
            yield f"{forged} forged messages were printed"
        sent, printed = self.new_names
        if printed < sent:
            yield f"{sent - printed} of {sent} genuine messages, each from a new name of one zone, were not printed"

    def _faults_of_delays(self) -> Iterator[str]:
        for one in self.measurements:
            if one.high >= bounds.DELAY_SECONDS:
                yield f"{one.name}: the 99th percentile delay of {len(one.delays)} known messages is {one.high:.3f} s"
        for what in self.stuck:
            yield f"known senders' messages were not printed any more after {what}"
        asked, confirmed = self.receipts
        if confirmed < bounds.CONFIRMED_SHARE * asked:
            yield f"a known sender received {confirmed} of the {asked} receipts that it asked for"

    def _faults_of_cost(self) -> Iterator[str]:
        for end in self.unexpected_ends:
            yield f"the receiver {end}"
        if self.memory_kills:
            yield f"the kernel killed the receiver {self.memory_kills} times because of its memory use"
        if self.peak_memory > bounds.MEMORY_BYTES:
            yield f"it used {self.peak_memory / 1e6:.1f} MB of memory (allowed: {bounds.MEMORY_BYTES / 1e6:.1f})"
        if self.peak_disk > bounds.DISK_BYTES:
            yield f"it used {self.peak_disk / 1e6:.1f} MB of disk (allowed: {bounds.DISK_BYTES / 1e6:.1f})"
        if self.peak_log_rate > bounds.LOG_BYTES_A_SECOND:
            yield f"it logged {self.peak_log_rate:.0f} B/s for 10 s (allowed: {bounds.LOG_BYTES_A_SECOND})"
        if self.idle_share > bounds.IDLE_SHARE:
            yield f"after the attack it uses {self.idle_share:.0%} of a processor"

    def _faults_of_counts(self) -> Iterator[str]:
        for balance in self.balances:
            if balance.waiting is None:
                yield "it does not report how many messages wait when it ends"
            elif not balance.is_even:
                yield f"its counters disagree: {balance}"
