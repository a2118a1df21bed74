"""Puts the device's own records into DNS, and reads them back from every name server of the zone.

`change` has the values, `record_types` what depends on the type of records, `zone` finds the zone and its name servers,
`name_servers` reads from them, `publication` decides what changes of the TLSA records and `epoch_publication` of the
epoch records. `dynamic_update`, `desec` and `shell_command` are the methods that write; nothing here reads a
private key.
"""

from typing import Protocol

from idlib.errors import ConfigurationError
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.record_types import Place, epoch_place, tlsa_place
from idlib.publishing.zone import HostResolver, Zone
from idlib.settings import PublishMethod, Settings

__all__ = ["Change", "Place", "PublishedSet", "Publisher", "Zone", "epoch_place", "publisher_from", "tlsa_place"]


class Publisher(Protocol):
    """A way to change the records at one place."""

    def read(self) -> PublishedSet:
        """Return the records that are there now, where they are written.

        Raises:
            PublishingError: They cannot be read.
        """

    def lowest_ttl(self) -> int:
        """Return the lowest TTL that the zone may have, in seconds.

        Raises:
            PublishingError: It cannot be read.
        """

    def apply(self, change: Change) -> None:
        """Make a change, all of it or nothing.

        Args:
            change: What is added and removed.

        Raises:
            ConcurrentChangeError: The records are no longer those that the change starts from.
            CredentialError: The credential is rejected.
            PublishingError: The change was not made, or it is not known whether it was.
        """

    def check(self) -> None:
        """Check that a change would be accepted, without changing anything.

        Raises:
            CredentialError: The credential is missing, unusable or rejected.
            PublishingError: It cannot be checked.
        """

    def renew(self) -> None:
        """Make a write that changes nothing, if the zone would be deleted without writes.

        Raises:
            CredentialError: The credential is rejected.
            PublishingError: The write was not made, or there are no records.
        """


def publisher_from(settings: Settings, place: Place, zone: Zone) -> Publisher:
    """Return the method that DNS_PUBLISH selects.

    Args:
        settings: From the environment, with `idlib.settings.PUBLISHING_READS`.
        place: Where the records are.
        zone: The zone of that place.

    Raises:
        ConfigurationError: DNS_PUBLISH, or a setting that its method needs, is not set.
        CredentialError: The credential's file cannot be used.
        PublishingError: The server's address cannot be found.
    """
    match settings.dns_publish:
        case PublishMethod.RFC2136:
            if settings.dns_update_key_file is None:
                raise _missing("DNS_UPDATE_KEY_FILE", "rfc2136")
            from idlib.publishing.dynamic_update import DynamicUpdate
            from idlib.publishing.tsig_key import read_tsig_key

            server = HostResolver.from_settings(settings).update_servers(zone, settings.dns_update_server)
            return DynamicUpdate(place, zone, server, read_tsig_key(settings.dns_update_key_file))
        case PublishMethod.DESEC:
            if settings.desec_token_file is None:
                raise _missing("DESEC_TOKEN_FILE", "desec")
            from idlib.publishing.credential_file import read_secret
            from idlib.publishing.desec import Desec

            return Desec(place, zone, settings.desec_url, read_secret(settings.desec_token_file))
        case PublishMethod.COMMAND:
            if settings.dns_publish_command is None:
                raise _missing("DNS_PUBLISH_COMMAND", "command")
            from idlib.publishing.shell_command import ShellCommand

            return ShellCommand(place, zone, settings.dns_publish_command)
    raise ConfigurationError("Error: DNS_PUBLISH is not set; set it to a method, or change the records by hand")


def _missing(variable: str, method: str) -> ConfigurationError:
    return ConfigurationError(f"Error: DNS_PUBLISH={method} needs {variable}; set it")
