"""Where the services of an identity have their files, and what their units are called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from idlib.errors import ServiceError
from idlib.names import IdentityName

USER: Final = "dane-messenger"
# For each kind of service, the verb of dane-messenger that it runs.
VERBS: Final = {"receiver": "receive", "sender": "deliver", "maintenance": "maintain"}
UNITS: Final = {kind: f"messenger-{kind}@.service" for kind in VERBS}
# For each kind of service, which of CREDENTIALS it gets.
CREDENTIALS_OF: Final = {"receiver": "broker", "sender": "broker", "maintenance": "dns"}
# systemd's limit is 255 bytes for the whole name of a unit (systemd.unit(5)); the longest suffix has 30.
MAX_NAME_BYTES: Final = 220


def unit_of(kind: str, name: IdentityName) -> str:
    """Return the name of an identity's unit, which systemd needs no escaping for.

    Args:
        kind: Of the service.
        name: The device.
    """
    return UNITS[kind].replace("@", f"@{name}")


def check_length(name: IdentityName) -> None:
    """Check that the names of an identity's units and credentials can be as long as they are.

    Args:
        name: The device.

    Raises:
        ServiceError: The name is too long.
    """
    if len(name.text) > MAX_NAME_BYTES:
        raise ServiceError(
            f"a name of {len(name.text)} characters is too long for the name of a unit",
            f"use one of at most {MAX_NAME_BYTES}",
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of the services.

    Args:
        root: The root directory; tests use another one.
    """

    root: Path = Path("/")

    @property
    def units(self) -> Path:
        """The directory of the units."""
        return self.root / "etc/systemd/system"

    @property
    def sysusers(self) -> Path:
        """The file that declares the user of the services."""
        return self.root / "etc/sysusers.d/dane-messenger.conf"

    @property
    def settings(self) -> Path:
        """The directory of the files with settings."""
        return self.root / "etc/dane-messenger"

    @property
    def credentials(self) -> Path:
        """The directory of the credentials of all identities."""
        return self.settings / "credentials"

    @property
    def state(self) -> Path:
        """The directory of the keys and data of all identities."""
        return self.root / "var/lib/dane-messenger"

    def settings_of(self, name: IdentityName) -> Path:
        """Return the file with an identity's settings."""
        return self.settings / f"{name}.env"

    def state_of(self, name: IdentityName) -> Path:
        """Return the directory of an identity's keys and data."""
        return self.state / name.text

    def credentials_of(self, name: IdentityName) -> Path:
        """Return the directory of an identity's credentials, which has one for each of CREDENTIALS."""
        return self.credentials / name.text

    def drop_ins_of(self, name: IdentityName) -> list[Path]:
        """Return the directories of the drop-ins that systemctl edit has created for an identity's units."""
        return [self.units / f"{unit_of(kind, name)}.d" for kind in VERBS]

    def enabled(self, name: IdentityName) -> set[str]:
        """Return the units of an identity that start at boot."""
        return self._enabled() & {unit_of(kind, name) for kind in VERBS}

    def enabled_for_others(self, name: IdentityName) -> set[str]:
        """Return the units of all other identities that start at boot."""
        return self._enabled() - self.enabled(name)

    def _enabled(self) -> set[str]:
        patterns = [f"*.wants/{unit.replace('@', '@*')}" for unit in UNITS.values()]
        return {link.name for pattern in patterns for link in self.units.glob(pattern)}
