"""Changes records by a command of the user's, for DNS providers that nothing else here knows."""

import json
import os
from typing import Final

from idlib.errors import PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, TlsaSet, present
from idlib.publishing.name_servers import read_most_authoritative
from idlib.publishing.zone import Zone
from idlib.system.user_command import run_user_command

_SECONDS: Final = 300.0
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127


class ShellCommand:
    """Runs DNS_PUBLISH_COMMAND for each change.

    Args:
        name: The owner of the records.
        zone: The zone of the name.
        command: A command line for `sh`.
        seconds: How long it may take.
    """

    def __init__(self, name: IdentityName, zone: Zone, command: str, seconds: float = _SECONDS) -> None:
        self._name = name
        self._zone = zone
        self._command = command
        self._seconds = seconds

    def read(self) -> TlsaSet:
        """Return the records that the zone's name servers have; see `Publisher`."""
        return read_most_authoritative(self._zone, self._name)

    def lowest_ttl(self) -> int:
        """Return the TTL of the present records, because the provider may have raised it; see `Publisher`."""
        return self.read().ttl

    def apply(self, change: Change) -> None:
        """Run the command with the change as one JSON object on its stdin; see `Publisher`."""
        document = {
            "zone": self._zone.name,
            "name": self._name.text,
            "type": "TLSA",
            "ttl": change.after.ttl or change.before.ttl,
            "add": [present(rdata) for rdata in change.add],
            "remove": [present(rdata) for rdata in change.remove],
            "records": [present(rdata) for rdata in change.after.rdatas],
        }
        status = self._run(json.dumps(document) + "\n")
        if status == _NOT_FOUND:
            raise PublishingError("DNS_PUBLISH_COMMAND was not found", "give its absolute path")
        if status == _NOT_EXECUTABLE:
            raise PublishingError("DNS_PUBLISH_COMMAND is not executable", "run chmod +x on it")
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise PublishingError(f"DNS_PUBLISH_COMMAND ended with {how}", "see what it printed")

    def _run(self, text: str) -> int:
        """Run the command with a text on its stdin, and return its exit status."""
        try:
            return run_user_command(self._command, text, os.environ, self._seconds)
        except TimeoutError as error:
            raise PublishingError(
                f"DNS_PUBLISH_COMMAND did not end within {self._seconds:g} s and was killed",
                "run it by hand to see why",
            ) from error
        except OSError as error:
            raise PublishingError(
                f"DNS_PUBLISH_COMMAND cannot be started: {error.strerror}", "install a shell"
            ) from error

    def check(self) -> None:
        """Do nothing, because only a change can show whether the command works; see `Publisher`."""

    def renew(self) -> None:
        """Do nothing, because the command is run for changes only; see `Publisher`."""
