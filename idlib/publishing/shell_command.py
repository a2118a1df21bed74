"""Changes records by a command of the user's, for DNS providers that nothing else here knows."""

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from idlib.errors import PublishingError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.name_servers import read_most_authoritative
from idlib.publishing.record_types import TLSA, TXT, Place, RecordType
from idlib.publishing.zone import Zone
from idlib.system.user_command import run_user_command

_SECONDS: Final = 300.0
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
# A command that knows only TLSA records does not find its lists, and so does not publish texts as TLSA records.
_SUFFIXES: Final[Mapping[RecordType, str]] = MappingProxyType({TLSA: "", TXT: "_txt"})


class ShellCommand:
    """Runs DNS_PUBLISH_COMMAND for each change.

    Args:
        place: Where the records are.
        zone: The zone of that place.
        command: A command line for `sh`.
        seconds: How long it may take.
    """

    def __init__(self, place: Place, zone: Zone, command: str, seconds: float = _SECONDS) -> None:
        self._place = place
        self._zone = zone
        self._command = command
        self._seconds = seconds

    def read(self) -> PublishedSet:
        """Return the records that the zone's name servers have; see `Publisher`."""
        return read_most_authoritative(self._zone, self._place)

    def lowest_ttl(self) -> int:
        """Return the TTL of the present records, because the provider may have raised it; see `Publisher`."""
        return self.read().ttl

    def apply(self, change: Change) -> None:
        """Run the command with the change as one JSON object on its stdin; see `Publisher`."""
        present = self._place.type.present
        suffix = _SUFFIXES[self._place.type]
        document = {
            "zone": self._zone.name,
            "name": self._place.owner.text,
            "type": str(self._place.type),
            "ttl": change.after.ttl or change.before.ttl,
            f"add{suffix}": [present(rdata) for rdata in change.add],
            f"remove{suffix}": [present(rdata) for rdata in change.remove],
            f"records{suffix}": [present(rdata) for rdata in change.after.rdatas],
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
