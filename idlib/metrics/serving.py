"""Serves the metrics of a service at METRICS_ADDRESS, if that is set."""

import ipaddress
import logging
import platform
from collections.abc import Callable, Iterable

import idlib
from idlib.errors import ConfigurationError
from idlib.metrics.catalogue import BUILD_INFO
from idlib.metrics.readings import Reading
from idlib.metrics.requests import PATH
from idlib.settings import ServerAddress

_LOG = logging.getLogger(__name__)


class Metrics:
    """What a service answers for; `read` may be replaced while the service runs.

    Args:
        service: The name of the service.
        read: Returns its readings; called by another thread, and must not wait for the network.
    """

    def __init__(self, service: str, read: Callable[[], Iterable[Reading]]) -> None:
        self._labels = (service, idlib.__version__, platform.python_version())
        self.read = read

    def readings(self) -> Iterable[Reading]:
        """Return the readings of the service and the one that tells what is running."""
        return (Reading(BUILD_INFO, {self._labels: 1.0}), *self.read())


def open_metrics(address: ServerAddress | None, metrics: Metrics) -> Callable[[], None]:
    """Serve metrics until the process ends or the returned function is called.

    Args:
        address: METRICS_ADDRESS; None serves nothing.
        metrics: What is served.

    Raises:
        ConfigurationError: prometheus_client is not installed, or the address cannot be used.
    """
    if address is None:
        return _do_nothing
    try:
        # Imported late: without metrics, a service needs no web server and no prometheus_client.
        from idlib.metrics.exposition import page_of
        from idlib.metrics.server import MetricsServer
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("prometheus_client"):
            raise
        raise ConfigurationError(
            "METRICS_ADDRESS needs the Python package prometheus-client, which is not installed; install it, or unset"
            " METRICS_ADDRESS"
        ) from error
    try:
        server = MetricsServer(address, page_of(metrics.readings))
    except OSError as error:
        raise ConfigurationError(
            f"Metrics cannot be served at METRICS_ADDRESS, {address}: {error.strerror}; set it to an address of this"
            " machine and a free port, or unset it"
        ) from error
    _LOG.info("Metrics are served at http://%s%s", address, PATH)
    if not ipaddress.ip_address(address.address).is_loopback:
        _LOG.warning("Anyone who can connect to %s can read the metrics: there is no login and no encryption", address)
    return server.close


def _do_nothing() -> None:
    """Close nothing: nothing is served."""
