"""Mosquitto, the MQTT broker, with sessions that survive its restart."""

import signal
import time
from pathlib import Path

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon, free_port

_CONFIGURATION = """\
listener {port} {address}
allow_anonymous {anonymous}
user root
persistence true
persistence_location {directory}/
max_queued_messages 0
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
"""


class Mosquitto(Daemon):
    """A broker on loopback; it keeps sessions and queued messages in its directory.

    Args:
        directory: An existing directory for configuration, log and sessions.
        port: Its port; None picks a free one.
        anonymous: Whether a client without a password is accepted.
        extra: Further lines of its configuration.
        namespace: The network namespace that it runs in.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        anonymous: bool = True,
        namespace: Namespace | None = None,
        extra: str = "",
    ) -> None:
        self.host = LOOPBACK
        self.port = port or free_port()
        self._configuration = directory / "mosquitto.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                port=self.port, address=LOOPBACK, anonymous=str(anonymous).lower(), directory=directory
            )
            + extra
        )
        super().__init__(
            ["mosquitto", "-c", str(self._configuration)],
            directory / "mosquitto.log",
            lambda log: " running" in log,
            namespace,
        )

    @property
    def address(self) -> str:
        """Address and port as the programs show them."""
        return f"{self.host}:{self.port}"

    def forget(self) -> None:
        """Make its next start forget sessions and queued messages."""
        self.stop()
        (self._configuration.parent / "mosquitto.db").unlink(missing_ok=True)
        self.start()

    def last_written(self) -> int:
        """Return when it last wrote sessions and queued messages to the disk, in nanoseconds; 0 if it has not."""
        file = self._configuration.parent / "mosquitto.db"
        return file.stat().st_mtime_ns if file.exists() else 0

    def configure(self, extra: str) -> None:
        """Add lines to its configuration, which it reads at its next start.

        Args:
            extra: Whole lines.
        """
        with self._configuration.open("a") as configuration:
            configuration.write(extra)

    def reload(self) -> None:
        """Make it read the files of its configuration again; they apply from then on."""
        seen = self._reloads()
        self.send_signal(signal.SIGHUP)
        while self._reloads() == seen:
            time.sleep(0.02)

    def _reloads(self) -> int:
        return self.log.read_text().count("Reloading config.")
