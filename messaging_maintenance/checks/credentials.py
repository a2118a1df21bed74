"""Whether the device's records could be published: the method, its credential, and what the server says to it."""

from idlib.errors import ConfigurationError, CredentialError, PublishingError
from idlib.publishing import publisher_from, tlsa_place
from idlib.publishing.zone import HostResolver
from idlib.settings import PublishMethod, Settings
from messaging_maintenance.checks.result import Item, fail, ok, skip


def check_credentials(settings: Settings) -> list[Item]:
    """Return what there is to say about publishing, after an update that changes nothing.

    Args:
        settings: From the environment, with `idlib.settings.PUBLISHING_READS`.
    """
    method = settings.dns_publish
    if method is None:
        return [
            ok("publishing.method", "DNS_PUBLISH is not set: records are entered by hand"),
            ok("publishing.credential", "none is needed"),
        ]
    chosen = ok("publishing.method", f"records are published by {method} (DNS_PUBLISH)")
    try:
        zone = HostResolver.from_settings(settings).find_zone(settings.identity_name)
    except PublishingError as error:
        return [chosen, skip("publishing.credential", error.fact, error.hint)]
    try:
        publisher_from(settings, tlsa_place(settings.identity_name), zone).check()
    except ConfigurationError as error:
        return [
            fail("publishing.method", error.problems[0], "set what the method needs; see docs/settings.md"),
            skip("publishing.credential", "the method cannot be used"),
        ]
    except (CredentialError, PublishingError) as error:
        return [chosen, fail("publishing.credential", error.fact, error.hint)]
    if method is PublishMethod.COMMAND:
        return [chosen, skip("publishing.credential", "only a change shows whether DNS_PUBLISH_COMMAND works")]
    return [chosen, ok("publishing.credential", "the server accepts an update that changes nothing")]
