"""The stack of docker-compose.yml as a laptop runs it, with its own name servers and broker."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import idlib
from testbed.containers.base_images import BASE_IMAGES
from testbed.containers.engine import DOCKER, REPOSITORY, docker, take_down, wait_until

SERVICES: Final = ("maintenance", "messaging_sender", "messaging_receiver", "resolver")
BASES: Final = dict.fromkeys(SERVICES[:3], BASE_IMAGES["PYTHON_IMAGE"]) | {"resolver": BASE_IMAGES["DEBIAN_IMAGE"]}
# The memory that each may use, in MiB: half of a Raspberry Pi 3 is left for other programs.
MAX_MEMORY: Final = {"maintenance": 15, "messaging_sender": 50, "messaging_receiver": 60, "resolver": 30}
DEVICE: Final = "alice._device.example.com"
SUBSCRIBED: Final = "MQTT subscription active."
FILES: Final = ("docker-compose.yml", "docker-compose.override.yml", "tests/containers/internet/internet.yml")
_CONTROL: Final = ("knotc", "-s", "/run/knot/knot.sock")
_BUILD_SECONDS: Final = 900


class Stack:
    """One device: its images are built by the `with` statement, and everything is removed at its end.

    Args:
        number: Tells it from other stacks that exist at the same time.
        patience: How many seconds a service may take to log or print what a test waits for.
    """

    files: Sequence[str] = FILES

    def __init__(self, number: int = 1, patience: float = 30) -> None:
        self.patience = patience
        self.project = f"stack-test-{os.getpid()}-{number}"
        self._environment = {
            "STACK_NETWORK": f"10.{52 + 2 * number}.{os.getpid() % 256}",
            "IMAGE_PREFIX": self.project,
            "IDENTITY_NAME": DEVICE,
            "MQTT_HOST": "broker",
            **BASE_IMAGES,
        }

    def __enter__(self) -> Self:
        try:
            self.compose("build", seconds=_BUILD_SECONDS)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a plain `docker compose` in the checkout use this stack."""
        return {**self._environment, "COMPOSE_FILE": ":".join(self.files), "COMPOSE_PROJECT_NAME": self.project}

    def compose(self, *words: str, check: bool = True, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run docker compose on the stack; arguments as those of `engine.docker`."""
        return docker(*self._words(*words), environment=self._environment, check=check, seconds=seconds)

    def up(self) -> None:
        """Start all services."""
        self.compose("up", "--detach", "--no-build")

    def down(self) -> None:
        """Remove all containers and the network, and keep the volumes."""
        take_down(self.compose, "down")

    def run(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a new container, as the article does."""
        return self.compose("run", "--rm", "--no-TTY", service, *command, check=check)

    def exec(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's container, as balena's terminal does."""
        return self.compose("exec", "--no-TTY", service, *command, check=check)

    def make_identity(self) -> None:
        """Create the device's key and certificate, publish its record and wait for the receiver, as new users do."""
        self.run("maintenance", "./create_selfsigned_id.py")
        self.publish(self.run("maintenance", "./generate_tlsa.py").stdout)
        self.wait_for_line("messaging_receiver", SUBSCRIBED)

    def publish(self, shown: str) -> None:
        """Enter a record in the zone.

        Args:
            shown: The output of generate_tlsa.py; its last line is that of a zone file.
        """
        name, time_to_live, _, kind, *record = shown.splitlines()[-1].split()
        for command in (
            ("zone-begin", "."),
            ("zone-set", ".", name, time_to_live, kind, *record),
            ("zone-commit", "."),
        ):
            self.exec("internet", *_CONTROL, *command)

    def send(self, text: str) -> None:
        """Send a message from the device to itself, and wait until it is printed."""
        self.exec("messaging_sender", "./send_message.py", DEVICE, text)
        self.wait_for_message(text)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Keep a send_message.py running that has sent a message and waits for the next."""
        command = ("exec", "--no-TTY", "messaging_sender", "./send_message.py", DEVICE, "--lines")
        with subprocess.Popen(
            [DOCKER, *self._words(*command)],
            env={**os.environ, **self._environment},
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as session:
            assert session.stdin
            session.stdin.write("first of a session\n")
            session.stdin.flush()
            self.wait_for_message("first of a session")
            yield
            session.stdin.close()
            session.wait(30)

    def memory_while_delivering(self, number: int) -> float:
        """Let messages wait in the outbox while there is no broker, and return how much memory their delivery takes.

        Args:
            number: How many messages the device sends to itself.
        """
        subscriptions = self.log("messaging_receiver").stderr.count(SUBSCRIBED)
        self.compose("stop", "broker", "messaging_sender")
        # In a separate container, because the engine also counts the pages of files that a command has read.
        script = f'for i in $(seq {number}); do echo "delivered $i"; done | ./send_message.py {DEVICE} --lines --queue'
        queued = self.run("messaging_sender", "bash", "-c", script).stderr
        assert f"Queued: {number} message" in queued, queued
        self.compose("start", "broker")
        self.wait_for_line("messaging_receiver", SUBSCRIBED, times=subscriptions + 1)
        self.compose("start", "messaging_sender")
        used: list[float] = []

        def is_delivered() -> bool:
            has_printed = self.has_printed(f"delivered {number}")
            used.append(self.memory("messaging_sender"))
            return has_printed

        wait_until("all is delivered", is_delivered, 90)
        return max(used)

    def has_printed(self, text: str) -> bool:
        """Return whether the receiver has printed the device's own message."""
        return f'"{DEVICE} says: {text}"' in self.log("messaging_receiver").stdout.splitlines()

    def wait_for_message(self, text: str) -> None:
        """Wait until the receiver has printed the device's own message."""
        wait_until(text, lambda: self.has_printed(text), self.patience)

    def wait_for_line(self, service: str, text: str, *, times: int = 1) -> None:
        """Wait until a service has logged a text this many times since its container was created."""
        wait_until(f"{service}: {text}", lambda: self.log(service).stderr.count(text) >= times, self.patience)

    def wait_until_healthy(self, service: str) -> None:
        """Wait until the engine reports that a service is healthy."""
        wait_until(
            f"{service} is healthy",
            lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy",
            max(90, self.patience),
        )

    def log(self, service: str) -> subprocess.CompletedProcess[str]:
        """Return what a service has written since its container was created."""
        return docker("logs", self.container(service))

    def memory(self, service: str) -> float:
        """Return the memory that a service uses now, as the engine counts it, in MiB."""
        used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", self.container(service)).stdout
        amount = re.match(r"([\d.]+)MiB", used)
        assert amount, used
        return float(amount[1])

    def size(self, *services: str) -> int:
        """Return the bytes that the services' images add to their bases, with shared layers counted once."""
        steps = set().union(*(_history(self.image(service)) - _history(BASES[service]) for service in services))
        return sum(size for _, size in steps)

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.project}-{service}-1"

    def image(self, service: str) -> str:
        """Return the name of a service's image."""
        return f"{self.project}/{service}:{idlib.__version__}"

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine reports about a service's container."""
        (found,) = json.loads(docker("inspect", self.container(service)).stdout)
        assert isinstance(found, dict)
        return found

    def _words(self, *words: str) -> list[str]:
        return ["compose", *(f"--file={file}" for file in self.files), "--project-name", self.project, *words]

    def _remove(self) -> None:
        take_down(self.compose, "down", "--volumes", "--rmi", "all", "--remove-orphans")


def _history(image: str) -> set[tuple[str, int]]:
    """Return the steps that built an image, each with the bytes that it added."""
    listed = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image).stdout
    return {(made_by, int(size)) for size, _, made_by in (line.partition(" ") for line in listed.splitlines())}
