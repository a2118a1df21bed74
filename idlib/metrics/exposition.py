"""Readings in Prometheus's text format, version 0.0.4; imported only if METRICS_ADDRESS is set."""

import itertools
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from idlib.metrics.readings import HistogramValue, Kind, Reading, Value

_INFINITY = "+Inf"


class _ReadingsCollector(Collector):
    """Takes the readings anew for each page."""

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for reading in self._read():
            yield _family(reading)


def page_of(read: Callable[[], Iterable[Reading]]) -> Callable[[], bytes]:
    """Return a function that returns the page.

    Args:
        read: Returns the readings of all metrics of the service; numbers about its process are added to them.
    """
    # The library's own registry is shared by all that use it in this process.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ReadingsCollector(read))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


def _family(reading: Reading) -> Metric:
    metric = reading.metric
    match metric.kind:
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in reading.values.items():
                if isinstance(value, HistogramValue):
                    histogram.add_metric(labels, _buckets(value), value.total)
            return histogram
        case Kind.COUNTER:
            return _with_numbers(CounterMetricFamily(metric.name, metric.help, labels=metric.labels), reading)
        case Kind.GAUGE:
            return _with_numbers(GaugeMetricFamily(metric.name, metric.help, labels=metric.labels), reading)


def _with_numbers(
    family: CounterMetricFamily | GaugeMetricFamily, reading: Reading
) -> CounterMetricFamily | GaugeMetricFamily:
    for labels, value in reading.values.items():
        family.add_metric(labels, _number(value))
    return family


def _number(value: Value) -> float:
    assert not isinstance(value, HistogramValue)  # noqa: S101  # for mypy; Reading has checked it
    return value


def _buckets(value: HistogramValue) -> list[tuple[str, float]]:
    bounds = (*(str(bound) for bound in value.bounds), _INFINITY)
    return list(zip(bounds, itertools.accumulate(value.counts), strict=True))
