"""The figures of a benchmark: several equal runs, each beside its peer."""

import statistics
from dataclasses import dataclass
from typing import Final

from benchmarks.target import Target, Verdict

RUNS: Final = 5


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
        return f"{_short(self.median)} ({_short(min(self.figures))} to {_short(max(self.figures))})"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table, measured.

    Args:
        target: What was measured.
        ours: Our figures.
        peer: The peer's figures, each from beside the figure at the same place; None if there is no peer.
    """

    target: Target
    ours: Sample
    peer: Sample | None = None

    def __post_init__(self) -> None:
        if self.peer is not None and len(self.peer.figures) != len(self.ours.figures):
            raise ValueError(f"{self.target.title}: each figure needs its peer")

    @property
    def result(self) -> Sample:
        """What is compared with the limits: the ratios of the pairs, or our figures if there is no peer."""
        if self.peer is None:
            return self.ours
        return Sample(tuple(ours / peer for ours, peer in zip(self.ours.figures, self.peer.figures, strict=True)))

    @property
    def verdict(self) -> Verdict:
        """How the result compares with the limits."""
        return self.target.verdict(self.result.median)

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the row: title, figure, peer, result, floor, aim, verdict."""
        target = self.target
        peer = "" if self.peer is None else f"{target.peer}: {_short(self.peer.median)}"
        limits = ("" if limit is None else f"{limit:g}" for limit in (target.floor, target.aim))
        ours = f"{_short(self.ours.median)} {target.unit}"
        return (target.title, ours, peer, str(self.result), *limits, self.verdict.value)


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
