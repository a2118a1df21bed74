"""Show the services of an identity: whether they run, and what they last said of their health."""

import argparse
from dataclasses import dataclass
from typing import Final, Self

from dane_messenger.service.host import require_systemd, systemctl
from dane_messenger.service.layout import VERBS, check_length, unit_of
from idlib.errors import ExitStatus, ServiceError
from idlib.names import IdentityName
from idlib.output import harmless
from idlib.program.command_line import parser, require_stdout

_PROPERTIES: Final = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "ExecMainStatus",
    "NRestarts",
    "StatusText",
)
_ACTIVE: Final = "active"


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = parser(
        "Show each service of a device: its state, and the health that it has last reported, as --health prints it. The"
        " exit status is 0 if all of them are active and healthy, else 8.",
        "{program} alice._device.example.com",
    )
    line.add_argument("name", metavar="NAME", help="the device's DNS name")
    return line


def main() -> ExitStatus:
    """Print a line for each service, and return the exit status.

    Raises:
        ServiceError: They are not installed, or systemd does not answer.
        MalformedNameError: The name is not a device name.
    """
    arguments = command_line().parse_args()
    require_stdout()
    name = IdentityName(arguments.name)
    check_length(name)
    require_systemd()
    shown = systemctl("show", f"--property={','.join(_PROPERTIES)}", *(unit_of(kind, name) for kind in VERBS))
    services = read_services(shown)
    if len(services) != len(VERBS):
        raise ServiceError("systemctl show has printed something else than three units", "look at systemctl status")
    if not any(one.is_installed for one in services):
        raise ServiceError(f"no services are installed for {name}", "run dane-messenger service install as root")
    for one in services:
        print(harmless(str(one)))
    return ExitStatus.OK if all(one.is_healthy for one in services) else ExitStatus.CHECK_FAILED


@dataclass(frozen=True, slots=True)
class Service:
    """What systemd knows of a unit.

    Args:
        unit: Its name.
        is_installed: Whether systemd has found its file.
        state: Such as active, activating, inactive or failed.
        detail: Such as running, or auto-restart.
        result: Why it ended: success, exit-code, signal, watchdog and so on.
        status: The status with which it ended.
        restarts: How often systemd has started it again.
        health: The line that it has sent.
    """

    unit: str
    is_installed: bool
    state: str
    detail: str
    result: str
    status: str
    restarts: str
    health: str

    @classmethod
    def from_properties(cls, properties: dict[str, str]) -> Self:
        """Return the service that `systemctl show` describes; what it does not say is empty.

        Args:
            properties: The values by their names.
        """
        return cls(
            properties.get("Id", ""),
            properties.get("LoadState") == "loaded",
            properties.get("ActiveState", ""),
            properties.get("SubState", ""),
            properties.get("Result", ""),
            properties.get("ExecMainStatus", ""),
            properties.get("NRestarts", ""),
            properties.get("StatusText", ""),
        )

    @property
    def is_healthy(self) -> bool:
        """Whether it runs, and has said that it is healthy."""
        return self.state == _ACTIVE and self.health.startswith("ok")

    def __str__(self) -> str:
        if self.state == _ACTIVE:
            return f"{self.unit}: {self.state} ({self.detail}): {self.health or 'its health is not known yet'}"
        if self.result in {"", "success"}:
            return f"{self.unit}: {self.state} ({self.detail})"
        again = "" if self.restarts in {"", "0"} else f", started again {self.restarts} times"
        return f"{self.unit}: {self.state} ({self.detail}): {self.result}, status {self.status}{again}; see journalctl"


def read_services(shown: str) -> list[Service]:
    """Return the services in the output of `systemctl show`: lines of NAME=VALUE, and an empty one between units.

    Args:
        shown: The output.
    """
    blocks = [block for block in shown.split("\n\n") if block.strip()]
    return [
        Service.from_properties(dict(line.split("=", 1) for line in block.splitlines() if "=" in line))
        for block in blocks
    ]
