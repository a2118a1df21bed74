"""Opens what changes the device's records, as the environment configures it."""

import sys

from idlib.publishing import Place, Publisher, publisher_from, tlsa_place
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
    publisher = open_publisher(settings, tlsa_place(name), zone)
    return Publishing(publisher, zone, name, settings.tlsa_ttl, wait_seconds or WAIT_SECONDS, _report), zone


def open_publisher(settings: Settings, place: Place, zone: Zone) -> Publisher:
    """Return what changes the records at one place.

    Args:
        settings: From the environment; without DNS_PUBLISH, the user is asked to make each change.
        place: Where the records are.
        zone: The zone of that place.

    Raises:
        ConfigurationError: A setting that the method needs is not set.
        CredentialError: The credential's file cannot be used.
        PublishingError: The server's address cannot be found.
    """
    return ByHand(place, zone) if settings.dns_publish is None else publisher_from(settings, place, zone)


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
