"""The stack of docker-compose.scale.yml: several receivers of one name, with a broker and a database."""

import re
from collections import Counter
from typing import Final

from testbed.containers.engine import docker, wait_until
from testbed.containers.stack import DEVICE, FILES, SUBSCRIBED, Stack

RECEIVER: Final = "messaging_receiver"
_START_SECONDS: Final = 120


class ScaledStack(Stack):
    """One name with several receivers; used like `Stack`.

    Args:
        number: Tells it from other stacks that exist at the same time.
    """

    files = (*FILES, "docker-compose.scale.yml", "tests/containers/scale/images.yml")

    def __init__(self, number: int) -> None:
        super().__init__(number, patience=60)
        del self._environment["MQTT_HOST"]
        self._environment |= {
            "MOSQUITTO_IMAGE": f"{self.project}/mosquitto",
            "POSTGRESQL_IMAGE": f"{self.project}/postgresql",
        }

    def scale(self, receivers: int) -> None:
        """Let this many receivers run, and all other services; a new one has subscribed when this returns.

        Args:
            receivers: The number of receivers.
        """
        self.compose("up", "--detach", "--no-build", "--scale", f"{RECEIVER}={receivers}", seconds=_START_SECONDS)

    def wait_for_receivers(self, receivers: int) -> None:
        """Wait until this many receivers run and have subscribed.

        Args:
            receivers: The number of receivers.
        """
        wait_until(
            f"{receivers} receivers have subscribed",
            lambda: sum(SUBSCRIBED in docker("logs", name).stderr for name in self.receivers()) >= receivers,
            self.patience,
        )

    def receivers(self) -> list[str]:
        """Return the names of the containers of receivers that run."""
        return self.compose("ps", "--format", "{{.Name}}", RECEIVER).stdout.split()

    def send_lines(self, texts: list[str]) -> None:
        """Send messages from the device to itself; each is acknowledged by the broker when this returns.

        Args:
            texts: The messages.
        """
        script = f"printf '%s\\n' {' '.join(texts)} | ./send_message.py {DEVICE} --lines"
        self.exec("messaging_sender", "sh", "-euc", script)

    def printed(self, names: list[str]) -> Counter[str]:
        """Return how often the containers of receivers have printed each text of the device itself.

        Args:
            names: The names of the containers, which need not run any more.
        """
        return sum((texts_in(docker("logs", name).stdout) for name in names), Counter())


def texts_in(output: str) -> Counter[str]:
    """Return how often a receiver's output has each text of the device itself.

    Args:
        output: What the receiver has printed.
    """
    return Counter(re.findall(rf'^"{re.escape(DEVICE)} says: (.*)"$', output, re.MULTILINE))
