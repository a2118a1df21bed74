"""RabbitMQ with its MQTT plugin, in directories and on ports of its own."""

from pathlib import Path
from types import TracebackType
from typing import Final, Self

from testbed.daemons.process import LOOPBACK, Daemon, free_port

# The usual commands become another user, and use the directories of the system's service.
_SERVER: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_START_SECONDS: Final = 60.0
_CONFIGURATION: Final = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = {address}:{port}
mqtt.allow_anonymous = true
mqtt.subscription_ttl = 604800000
log.console = true
log.console.level = info
log.file = false
"""


class _PortMapper(Daemon):
    """Erlang's port mapper: RabbitMQ would otherwise start one itself, and leave it behind."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        super().__init__(
            ["epmd", "-d", "-port", str(self.port), "-address", LOOPBACK],
            directory / "epmd.log",
            lambda log: "epmd running" in log,
        )


class RabbitMq(Daemon):
    """A broker on loopback that accepts clients without a password; it keeps sessions and messages in its directory.

    Args:
        directory: An existing directory for configuration, log and data.
    """

    def __init__(self, directory: Path) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self._port_mapper = _PortMapper(directory)
        configuration = self.configuration = directory / "rabbitmq.conf"
        configuration.write_text(_CONFIGURATION.format(address=LOOPBACK, port=self.port))
        (directory / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        environment = {
            "HOME": directory,
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": self._port_mapper.port,
            "RABBITMQ_CONF_ENV_FILE": directory / "absent",
            "RABBITMQ_CONFIG_FILE": configuration,
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_ENABLED_PLUGINS_FILE": directory / "enabled_plugins",
            "RABBITMQ_LOG_BASE": directory / "log",
            "RABBITMQ_MNESIA_BASE": directory / "data",
            "RABBITMQ_NODENAME": f"testbed{self.port}@localhost",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Without this the server is a child of a shell, which does not end it if the tests are killed.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        super().__init__(
            ["env", *(f"{name}={value}" for name, value in environment.items()), _SERVER],
            directory / "rabbitmq.log",
            lambda log: "Server startup complete" in log,
        )
        self.name = "rabbitmq-server"

    @property
    def address(self) -> str:
        """Address and port as the programs show them."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self._port_mapper.start()
        try:
            self.start()
        except BaseException:
            self._port_mapper.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._port_mapper.stop()

    def start(self, timeout: float = _START_SECONDS) -> None:
        """Start the broker, which takes longer than other daemons, and wait until it is ready.

        Args:
            timeout: How many seconds it may take.

        Raises:
            DaemonError: It ended, or was not ready in time.
        """
        super().start(timeout)
