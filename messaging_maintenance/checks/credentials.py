"""Whether the device's records could be published: the method, its credential, and what the server says to it."""

from idlib.errors import ConfigurationError, CredentialError, MalformedNameError, PublishingError
from idlib.publishing import Place, epoch_place, publisher_from, tlsa_place
from idlib.publishing.zone import HostResolver, Zone
from idlib.settings import PublishMethod, Settings, Switch
from messaging_maintenance.checks.result import Item, fail, ok, skip


def check_credentials(settings: Settings) -> list[Item]:
    """Return what there is to say about publishing, after an update that changes nothing.

    With EPOCH_KEYS=on, there is another one for the epoch records: they need a permission of their own.

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
        places = _places(settings)
    except (PublishingError, MalformedNameError) as error:
        return [chosen, skip("publishing.credential", error.fact, error.hint)]
    try:
        for place, zone in places:
            publisher_from(settings, place, zone).check()
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


def _places(settings: Settings) -> list[tuple[Place, Zone]]:
    name, resolver = settings.identity_name, HostResolver.from_settings(settings)
    places = [(tlsa_place(name), resolver.find_zone(name))]
    if settings.epoch_keys is Switch.ON:
        places.append(resolver.follow(epoch_place(name)))
    return places
