"""The reading of the durations of look-ups, which the receiver and the resident sender share."""

from idlib.metrics.catalogue import LOOK_UPS
from idlib.metrics.readings import HistogramValue, Reading
from idlib.system.durations import BOUNDS, Durations


def look_ups(durations: Durations) -> Reading:
    """Return how long look-ups took.

    Args:
        durations: Counts them.
    """
    return Reading(
        LOOK_UPS,
        {
            (str(outcome),): HistogramValue(BOUNDS, spread.counts, spread.seconds)
            for outcome, spread in durations.read().items()
        },
    )
