"""Numbers about a running service, in Prometheus's text format at METRICS_ADDRESS.

`catalogue` declares every metric; a service returns a `Reading` of each of its own when they are asked for, from the
counters that it has anyway. Nothing here loads prometheus_client unless METRICS_ADDRESS is set.
"""

from idlib.metrics.readings import HistogramValue, Kind, Metric, Reading, reading
from idlib.metrics.serving import Metrics, open_metrics

__all__ = ["HistogramValue", "Kind", "Metric", "Metrics", "Reading", "open_metrics", "reading"]
