"""The lab of docker-compose.lab.yml with a separate name and network, so that a user's lab is not disturbed."""

import json
import os
import subprocess
from types import TracebackType
from typing import Any, Final, Self

from testbed.containers.base_images import BASE_IMAGES
from testbed.containers.engine import docker, take_down, wait_until

ALICE: Final = "alice._device.example.test"
BOB: Final = "bob._device.example.test"
RECEIVER: Final = "bob_receiver"
_FILES: Final = ("docker-compose.lab.yml", "tests/containers/lab_images.yml")
_SUBSCRIBED: Final = "MQTT subscription active."
_BUILD_SECONDS: Final = 900


class LabWorld:
    """All services of the lab: started by the `with` statement, and removed with their volumes at its end."""

    def __init__(self) -> None:
        self.project = f"lab-test-{os.getpid()}"
        self.network = f"{self.project}_default"
        self._environment = {"LAB_NETWORK": f"10.55.{os.getpid() % 256}", **BASE_IMAGES}

    def __enter__(self) -> Self:
        try:
            self.up("--build")
        except BaseException:
            self.down("--volumes")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.down("--volumes")

    def up(self, *options: str) -> None:
        """Create and start all services, and wait until both receivers have subscribed."""
        self.compose("up", "--detach", *options, seconds=_BUILD_SECONDS)
        for service in ("alice_receiver", "bob_receiver"):
            self.wait_for_line(service, _SUBSCRIBED)

    def down(self, *options: str) -> None:
        """Remove all containers and the network."""
        take_down(self.compose, "--profile", "*", "down", *options)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make `docker compose` with the lab's two files use this lab."""
        return {**self._environment, "COMPOSE_PROJECT_NAME": self.project}

    def compose(self, *words: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run docker compose on the lab; arguments as those of `engine.docker`."""
        files = [f"--file={file}" for file in _FILES]
        return docker(
            "compose",
            *files,
            "--project-name",
            self.project,
            *words,
            environment=self._environment,
            check=check,
            seconds=seconds,
        )

    def exec(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container."""
        return self.compose("exec", "--no-TTY", service, *command, check=check)

    def send(self, text: str) -> int:
        """Send a message from Alice to Bob, and return the exit status."""
        return self.exec("alice_sender", "./send_message.py", BOB, text, check=False).returncode

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine reports about a service's container."""
        (found,) = json.loads(docker("inspect", self.container(service)).stdout)
        assert isinstance(found, dict)
        return found

    def logged(self, service: str) -> list[str]:
        """Return the lines that a service has written to stderr since its container was created."""
        return docker("logs", self.container(service)).stderr.splitlines()

    def printed(self, text: str) -> list[str]:
        """Return the lines with the text that Bob's receiver has written to stdout since its container was created."""
        return [line for line in docker("logs", self.container(RECEIVER)).stdout.splitlines() if text in line]

    def wait_for_message(self, text: str, seconds: float = 30) -> None:
        """Wait until Bob's receiver has printed the text."""
        wait_until(f"Bob's receiver prints {text}", lambda: bool(self.printed(text)), seconds)

    def wait_for_line(self, service: str, text: str, *, after: int = 0) -> None:
        """Wait until a service has logged a line with the text.

        Args:
            service: The service whose stderr is read.
            text: A part of the line.
            after: How many lines to skip.
        """
        wait_until(f"{service}: {text}", lambda: any(text in line for line in self.logged(service)[after:]))
