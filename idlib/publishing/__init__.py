"""Puts the device's own TLSA records into DNS, and reads them back from every name server of the zone.

`change` has the values, `zone` finds the zone and its name servers, `name_servers` reads from them, `publication`
decides what changes. `dynamic_update`, `desec` and `shell_command` are the methods that write; nothing here reads a
private key.
"""

from typing import Protocol

from idlib.errors import ConfigurationError
from idlib.publishing.change import Change, TlsaSet
from idlib.publishing.zone import HostResolver, Zone
from idlib.settings import PublishMethod, Settings

__all__ = ["Change", "Publisher", "TlsaSet", "Zone", "publisher_from"]


class Publisher(Protocol):
    """A way to change the records of one name."""

    def read(self) -> TlsaSet:
        """Return the TLSA records that the name has now, where they are written.

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


def publisher_from(settings: Settings, zone: Zone) -> Publisher:
    """Return the method that DNS_PUBLISH selects.

    Args:
        settings: From the environment, with `idlib.settings.PUBLISHING_READS`.
        zone: The zone of IDENTITY_NAME.

    Raises:
        ConfigurationError: DNS_PUBLISH, or a setting that its method needs, is not set.
        CredentialError: The credential's file cannot be used.
        PublishingError: The server's address cannot be found.
    """
    name = settings.identity_name
    match settings.dns_publish:
        case PublishMethod.RFC2136:
            if settings.dns_update_key_file is None:
                raise _missing("DNS_UPDATE_KEY_FILE", "rfc2136")
            from idlib.publishing.dynamic_update import DynamicUpdate
            from idlib.publishing.tsig_key import read_tsig_key

            server = HostResolver.from_settings(settings).update_servers(zone, settings.dns_update_server)
            return DynamicUpdate(name, zone, server, read_tsig_key(settings.dns_update_key_file))
        case PublishMethod.DESEC:
            if settings.desec_token_file is None:
                raise _missing("DESEC_TOKEN_FILE", "desec")
            from idlib.publishing.credential_file import read_secret
            from idlib.publishing.desec import Desec

            return Desec(name, zone, settings.desec_url, read_secret(settings.desec_token_file))
        case PublishMethod.COMMAND:
            if settings.dns_publish_command is None:
                raise _missing("DNS_PUBLISH_COMMAND", "command")
            from idlib.publishing.shell_command import ShellCommand

            return ShellCommand(name, zone, settings.dns_publish_command)
    raise ConfigurationError("Error: DNS_PUBLISH is not set; set it to a method, or change the records by hand")


def _missing(variable: str, method: str) -> ConfigurationError:
    return ConfigurationError(f"Error: DNS_PUBLISH={method} needs {variable}; set it")
