"""Opens what changes the device's records, as the environment configures it."""

import sys

from idlib.publishing import Publisher, publisher_from
from idlib.publishing.by_hand import ByHand
from idlib.publishing.publication import WAIT_SECONDS, Publishing
from idlib.publishing.zone import HostResolver, Zone
from idlib.settings import Settings


def open_publishing(settings: Settings, wait_seconds: float | None = None) -> tuple[Publishing, Zone]:
    """Return what changes the records of IDENTITY_NAME, and its zone.

    Args:
        settings: From the environment; without DNS_PUBLISH, the user is asked to make each change.
        wait_seconds: How long to wait until every name server serves a change; None for the usual time.

    Raises:
        ConfigurationError: A setting that the method needs is not set.
        CredentialError: The credential's file cannot be used.
        PublishingError: The zone or its servers cannot be found.
    """
    name = settings.identity_name
    zone = HostResolver.from_settings(settings).find_zone(name)
    publisher: Publisher = ByHand(name, zone) if settings.dns_publish is None else publisher_from(settings, zone)
    return Publishing(publisher, zone, name, settings.tlsa_ttl, wait_seconds or WAIT_SECONDS, _report), zone


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
