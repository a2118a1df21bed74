"""Changes records by a command of the user's, for DNS providers that nothing else here knows."""

import json
import subprocess
from typing import Final

from idlib.errors import PublishingError
from idlib.names import IdentityName
from idlib.publishing.change import Change, TlsaSet, present
from idlib.publishing.name_servers import read_from_all
from idlib.publishing.zone import Zone

_SECONDS: Final = 300.0
_COMMAND_NOT_FOUND: Final = 127


class ShellCommand:
    """Runs DNS_PUBLISH_COMMAND for each change.

    Args:
        name: The owner of the records.
        zone: The zone of the name.
        command: A command line for `sh`.
    """

    def __init__(self, name: IdentityName, zone: Zone, command: str) -> None:
        self._name = name
        self._zone = zone
        self._command = command

    def read(self) -> TlsaSet:
        """Return the records that the zone's name servers have; see `Publisher`.

        The primary server's answer counts, or that of the first server that answers.
        """
        served = [answer for answer in read_from_all(self._zone, self._name) if answer.records is not None]
        if not served:
            raise PublishingError(
                f"no name server of {self._zone.name} answers", "check the network, and the zone's NS records"
            )
        served.sort(key=lambda answer: answer.server.host != self._zone.primary)
        return served[0].records or TlsaSet.of(0, ())

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
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", self._command],
                input=json.dumps(document) + "\n",
                text=True,
                # Stdout belongs to the program's own output.
                stdout=2,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PublishingError(
                f"DNS_PUBLISH_COMMAND did not end within {_SECONDS:g} s and was killed", "run it by hand to see why"
            ) from error
        except OSError as error:
            raise PublishingError(
                f"DNS_PUBLISH_COMMAND cannot be started: {error.strerror}", "install a shell"
            ) from error
        if done.returncode == _COMMAND_NOT_FOUND:
            raise PublishingError("DNS_PUBLISH_COMMAND was not found", "give its absolute path")
        if done.returncode:
            how = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
            raise PublishingError(f"DNS_PUBLISH_COMMAND ended with {how}", "see what it printed")

    def check(self) -> None:
        """Do nothing, because only a change can show whether the command works; see `Publisher`."""
