"""NATS with its MQTT gateway; it keeps sessions and messages in JetStream, in a directory of its own."""

from pathlib import Path
from typing import Final

from testbed.daemons.process import LOOPBACK, Daemon, free_port

_CONFIGURATION: Final = """\
server_name: home
listen: "{address}:{own_port}"
jetstream {{ store_dir: "{directory}/jetstream" }}
mqtt {{ listen: "{address}:{port}" }}
"""


class Nats(Daemon):
    """A broker on loopback that accepts clients without a password.

    Args:
        directory: An existing directory for configuration, log and data.
    """

    def __init__(self, directory: Path) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        configuration = self.configuration = directory / "nats.conf"
        configuration.write_text(
            _CONFIGURATION.format(address=LOOPBACK, own_port=free_port(), port=self.port, directory=directory)
        )
        super().__init__(
            ["nats-server", "-c", str(configuration)], directory / "nats.log", lambda log: "Server is ready" in log
        )

    @property
    def address(self) -> str:
        """Address and port as the programs show them."""
        return f"{self.host}:{self.port}"
