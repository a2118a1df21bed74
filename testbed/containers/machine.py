"""A machine with systemd: a container whose init it is, in the network of this machine, where the lab's daemons are."""

import os
import subprocess
from types import TracebackType
from typing import Final, Self

from testbed.containers.base_images import BASE_IMAGES
from testbed.containers.engine import DOCKER, REPOSITORY, docker, wait_until

_DIRECTORY: Final = REPOSITORY / "tests/containers/machine"
_BUILD_SECONDS: Final = 900
# What systemd needs to mount what it gives to its services and to set up their system call filters, and a test to look
# into their mounts.
_PRIVILEGES: Final = (
    *(
        "--cap-add",
        "SYS_ADMIN",
        "--cap-add",
        "SYS_PTRACE",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "apparmor=unconfined",
    ),
    *("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--env", "container=docker"),
)


class Machine:
    """A running machine; it and its images are removed at the end of the `with` statement."""

    def __init__(self) -> None:
        self.name = f"machine-test-{os.getpid()}"

    def __enter__(self) -> Self:
        try:
            arguments = [f"--build-arg={name}={image}" for name, image in BASE_IMAGES.items()]
            base = f"{self.name}-base"
            docker("build", "--target", "python", "--tag", base, *arguments, ".", seconds=_BUILD_SECONDS)
            argument = f"--build-arg=MESSENGER_IMAGE={base}"
            docker("build", "--tag", self.name, argument, str(_DIRECTORY), seconds=_BUILD_SECONDS)
            docker("run", "--detach", "--name", self.name, "--network", "host", *_PRIVILEGES, self.name)
            wait_until("systemd runs", self._has_booted)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def run(
        self, *command: str, stdin: str = "", user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine, and return how it ended.

        Args:
            command: The command and its arguments.
            stdin: Its input.
            user: Who runs it.
            check: Whether an exit status other than 0 is a failure.
        """
        done = subprocess.run(
            [DOCKER, "exec", "--interactive", "--user", user, self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def write(self, path: str, text: str, mode: str = "600") -> None:
        """Write a file that belongs to root."""
        self.run("sh", "-c", 'umask 077; cat > "$1"; chmod "$2" "$1"', "-", path, mode, stdin=text)

    def shown(self, unit: str, *properties: str) -> list[str]:
        """Return properties of a unit, as `systemctl show` prints them."""
        return [self.run("systemctl", "show", "--property", one, "--value", unit).stdout.strip() for one in properties]

    def journal(self, unit: str) -> str:
        """Return what a unit has printed and logged."""
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", unit).stdout

    def _has_booted(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in {"running", "degraded"}

    def _remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, check=False)
        docker("rmi", "--force", self.name, f"{self.name}-base", check=False)
