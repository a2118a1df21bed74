"""Compares what was acknowledged with what the receivers of a group have printed, and judges what they have left."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from chaos.delivery_report import GROUP_SIZE

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Window:
    """The lines that a receiver had printed about the time of a fault that may have kept it from recording them.

    Args:
        first: How many lines it had printed when the fault began.
        last: How many it had printed when the fault ended.
    """

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class GroupRun:
    """One run of a receiver of the group.

    Args:
        printed: The texts, in order.
        was_killed: Whether it ended by SIGKILL.
        outages: One for each time that the database was killed during the run, or that the receiver was halted.
    """

    printed: tuple[str, ...]
    was_killed: bool
    outages: tuple[Window, ...] = ()

    def unrecorded(self) -> Counter[str]:
        """Return the texts that it may have printed without recording that: those of its group at each kill."""
        places: set[int] = set()
        if self.was_killed:
            places.update(range(max(0, len(self.printed) - GROUP_SIZE), len(self.printed)))
        for outage in self.outages:
            first, last = max(0, outage.first - GROUP_SIZE), min(len(self.printed), outage.last + GROUP_SIZE)
            places.update(range(first, last))
        return Counter(self.printed[place] for place in places)


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What was acknowledged, compared with what was printed and with what is left.

    Args:
        acknowledged: The texts whose messages the broker has acknowledged.
        published: These, and the texts whose messages it may have.
        runs: All runs of all receivers.
        database_kills: How often the database was killed.
        halts: How often a receiver was halted for longer than its lease.
        leftovers: What the group has left in the database and at the broker although it should not, a line for each.
        ends: Ends of receivers that nobody has asked for, a line for each.
    """

    acknowledged: frozenset[str]
    published: frozenset[str]
    runs: tuple[GroupRun, ...]
    database_kills: int
    halts: int
    leftovers: tuple[str, ...]
    ends: tuple[str, ...]

    @property
    def receiver_kills(self) -> int:
        """How many runs ended by SIGKILL."""
        return sum(1 for run in self.runs if run.was_killed)

    @property
    def allowed(self) -> int:
        """How many lines may be repeated."""
        return GROUP_SIZE * (self.receiver_kills + self.database_kills + self.halts)

    @property
    def lost(self) -> tuple[str, ...]:
        """The texts that were acknowledged and never printed."""
        return tuple(sorted(self.acknowledged - self._times.keys()))

    @property
    def unknown(self) -> tuple[str, ...]:
        """The texts that were printed and never published."""
        return tuple(sorted(self._times.keys() - self.published))

    @property
    def replayed(self) -> tuple[str, ...]:
        """The texts printed more often than kills explain: once more for each print that may not be recorded."""
        unrecorded = sum((run.unrecorded() for run in self.runs), Counter[str]())
        return tuple(sorted(text for text, times in self._times.items() if times > 1 + unrecorded[text]))

    @property
    def repeated(self) -> int:
        """How many lines were printed again, for whatever reason."""
        return sum(self._times.values()) - len(self._times)

    @property
    def failures(self) -> tuple[str, ...]:
        """What the group has done wrong, a line for each; none if it has passed."""
        found = [
            _listed("acknowledged and never printed", self.lost),
            _listed("printed and never published", self.unknown),
            _listed("printed again although no kill explains it", self.replayed),
        ]
        if self.repeated > self.allowed:
            found.append(f"{self.repeated} lines repeated, and only {self.allowed} allowed")
        if not self.acknowledged:
            found.append("nothing was acknowledged, so nothing was tested")
        return (*filter(None, found), *self.ends, *self.leftovers)

    @property
    def _times(self) -> Counter[str]:
        """How often each text was printed."""
        return Counter(text for run in self.runs for text in run.printed)


def _listed(what: str, texts: tuple[str, ...]) -> str:
    if not texts:
        return ""
    more = " …" if len(texts) > _SHOWN else ""
    return f"{len(texts)} messages {what}: {' '.join(texts[:_SHOWN])}{more}"
