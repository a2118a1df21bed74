"""What a benchmark measures: its unit, its peer, and how good the figure has to be."""

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """Which of two figures is the better one."""

    HIGHER = "higher"
    LOWER = "lower"


class Verdict(Enum):
    """How a figure compares with its target."""

    AIM = "aim reached"
    FLOOR = "floor reached"
    MISSED = "missed"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table.

    Args:
        title: What is measured.
        unit: The unit of the measured figure and of its peer.
        peer: What is measured beside it, of which the figure is a multiple; empty if the figure stands by itself.
        better: Which figure is the better one.
        floor: The limit that has to be kept; None if there is none.
        aim: The limit that is worth having; None if there is none.
    """

    title: str
    unit: str
    peer: str
    better: Better
    floor: float | None = None
    aim: float | None = None

    def verdict(self, figure: float) -> Verdict:
        """Return how a figure compares with the limits.

        Args:
            figure: The ratio to the peer, or the figure itself if there is no peer.
        """
        if self.floor is None or self.aim is None:
            return Verdict.NONE
        if self._is_within(figure, self.aim):
            return Verdict.AIM
        return Verdict.FLOOR if self._is_within(figure, self.floor) else Verdict.MISSED

    def _is_within(self, figure: float, limit: float) -> bool:
        return figure >= limit if self.better is Better.HIGHER else figure <= limit
