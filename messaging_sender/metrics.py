"""The resident sender's metrics, read from its counters and the outbox when they are asked for."""

import time
from collections.abc import Iterator

from idlib.errors import StoreError
from idlib.metrics import Reading, reading
from idlib.metrics.catalogue import (
    CONNECTED,
    DELIVERED,
    DROPPED,
    HEALTHY,
    OUTBOX_BYTES,
    OUTBOX_MESSAGES,
    OUTBOX_OLDEST,
)
from idlib.metrics.looking_up import look_ups
from messaging_sender.bounds import PATIENCE_SECONDS
from messaging_sender.delivery_counters import Content, DeliveryCounters


def readings(counters: DeliveryCounters) -> Iterator[Reading]:
    """Yield all readings.

    Args:
        counters: Of the resident sender.
    """
    content = _content(counters)
    deliveries = counters.read()
    # Unknown content means that the settings or the outbox cannot be used.
    yield from reading(HEALTHY, float(content is not None and not _is_stuck(content)))
    if content is not None:
        yield from reading(OUTBOX_MESSAGES, float(content.waiting.number))
        yield from reading(OUTBOX_BYTES, float(content.size))
        yield from reading(OUTBOX_OLDEST, content.waiting.since)
    yield from reading(DELIVERED, float(deliveries.delivered))
    yield from reading(DROPPED, float(deliveries.dropped))
    yield from reading(CONNECTED, float(deliveries.is_connected))
    yield look_ups(counters.durations)


def _content(counters: DeliveryCounters) -> Content | None:
    try:
        return counters.content()
    except StoreError:
        # The sender logs it.
        return None


def _is_stuck(content: Content) -> bool:
    since = content.waiting.since
    return since is not None and time.time() - since > PATIENCE_SECONDS
