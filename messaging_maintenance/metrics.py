"""The maintenance service's metrics, from what its checks have left in files; they run in processes of their own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from idlib.metrics import Metrics, Reading, open_metrics, reading
from idlib.metrics.catalogue import CERTIFICATE_EXPIRY, CHECK_SUCCEEDED, CHECK_TIME, EPOCHS_PUBLISHED, HEALTHY
from idlib.program.environment import log_to_stderr
from idlib.settings import METRICS_READS, load
from messaging_maintenance.health import EPOCH_HEALTH_FILE_NAME, is_healthy, read_health

# The check reports a bad name.
_ANY_NAME: Final = "device.example"


def serve(*, checks: bool) -> None:
    """Serve the metrics of the maintenance service at METRICS_ADDRESS until the process ends.

    Args:
        checks: Whether the service checks the identity.

    Raises:
        ConfigurationError: A setting has a bad value, or the address cannot be used.
    """
    settings = load({**os.environ, "IDENTITY_NAME": _ANY_NAME}, METRICS_READS)
    log_to_stderr(settings)
    directory = settings.crypto_path
    read = (lambda: _readings(directory)) if checks else _without_checks
    open_metrics(settings.metrics_address, Metrics("maintenance", read))


def _without_checks() -> Iterator[Reading]:
    yield from reading(HEALTHY, 1.0)


def _readings(directory: Path) -> Iterator[Reading]:
    yield from reading(HEALTHY, float(is_healthy(directory)))
    health = read_health(directory)
    if health is not None:
        yield from reading(CHECK_SUCCEEDED, float(health.is_ok))
        yield from reading(CHECK_TIME, health.checked)
        yield from reading(CERTIFICATE_EXPIRY, health.certificate_expiry or None)
    epochs = read_health(directory, EPOCH_HEALTH_FILE_NAME)
    if epochs is not None:
        yield from reading(EPOCHS_PUBLISHED, float(epochs.is_ok))
