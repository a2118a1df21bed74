"""What a metric is, and its values at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The types of metrics, in the words of Prometheus's text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """The declaration of a metric.

    Args:
        name: The name under which Prometheus stores it; that of a counter ends with `_total`.
        kind: Its type.
        help: What it tells, in one line without a full stop.
        labels: The names of its labels. Their values must come from a fixed set: each new one costs memory in
            Prometheus for weeks, so nothing that a stranger chooses may be one.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            raise ValueError(f"{self.name} is a {self.kind}")


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """How many events took how long.

    Args:
        bounds: The upper bounds of the buckets, in increasing order, without infinity.
        counts: How many events each bucket has that the ones before do not have, and how many are beyond all bounds.
        total: The sum of all events.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError("a histogram has one count more than bounds")


Value = float | HistogramValue


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of a metric at one moment.

    Args:
        metric: The metric.
        values: Its value for each combination of the values of its labels.
    """

    metric: Metric
    values: Mapping[tuple[str, ...], Value]

    def __post_init__(self) -> None:
        for labels, value in self.values.items():
            if len(labels) != len(self.metric.labels):
                raise ValueError(f"{self.metric.name} has the labels {self.metric.labels}, not {labels}")
            if isinstance(value, HistogramValue) != (self.metric.kind is Kind.HISTOGRAM):
                raise ValueError(f"{self.metric.name} is a {self.metric.kind}")


def reading(metric: Metric, value: Value | None) -> Sequence[Reading]:
    """Return the reading of a metric without labels; none if its value is not known.

    Args:
        metric: The metric.
        value: Its value.
    """
    return () if value is None else (Reading(metric, {(): value}),)
