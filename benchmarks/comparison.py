"""The result of a benchmark: our program's figures and those of the reference libraries in the same run."""

import statistics
from dataclasses import dataclass
from enum import Enum
from typing import Final

RUNS: Final = 5


class Better(Enum):
    """Which of two figures is the better one."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of several equal runs; shown as their median, with the lowest and the highest.

    Args:
        figures: At least one.
    """

    figures: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, which one disturbed run does not change."""
        return statistics.median(self.figures)

    def __str__(self) -> str:
        return f"{self.median:.3g} ({min(self.figures):.3g} to {max(self.figures):.3g})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table.

    Args:
        title: What was measured, with its unit.
        better: Which figure is the better one.
        ours: Figures of our program.
        reference: Figures of a program on the reference libraries; None if it could not be measured.
    """

    title: str
    better: Better
    ours: Sample
    reference: Sample | None

    @property
    def factor(self) -> float | None:
        """How many times better ours is; None if there is nothing to compare it with."""
        if self.reference is None:
            return None
        ratio = self.ours.median / self.reference.median
        return ratio if self.better is Better.HIGHER else 1 / ratio

    def cells(self) -> tuple[str, str, str, str]:
        """Return the line's columns."""
        reference = "not measured" if self.reference is None else str(self.reference)
        factor = "" if self.factor is None else f"{self.factor:.3g} times"
        return (self.title, str(self.ours), reference, factor)
