"""Publishes the device's records again, as they are at the present stage of its rotation."""

from collections.abc import Callable, Sequence

from idlib import keys
from idlib.bootstrap import Bootstrap
from idlib.publishing.change import Change
from idlib.publishing.publication import Publication, Publishing
from idlib.records import TlsaRecord
from idlib.settings import Settings
from messaging_maintenance.rotation.exclusion import alone
from messaging_maintenance.rotation.records import records_to_publish
from messaging_maintenance.rotation.schedule import LOWERED_TTL, Instant
from messaging_maintenance.rotation.state import Stage, state_file


def publish_records(publishing: Publishing, identity: Bootstrap, settings: Settings) -> Publication:
    """Publish the records that the device has at the present stage of its rotation; no step is taken meanwhile.

    Args:
        publishing: Changes the device's records.
        identity: The device.
        settings: From the environment.

    Raises:
        KeyFileError: The key, the certificate or the state is missing or unusable, or a step is being taken.
        PublishingError: The records were not published.
    """
    return _publish(publishing, identity, settings, Publishing.publish)


def publish_only_records(publishing: Publishing, identity: Bootstrap, settings: Settings) -> Publication:
    """Publish the same records, and remove those of all other keys; see `publish_records`.

    Args:
        publishing: Changes the device's records.
        identity: The device.
        settings: From the environment.
    """
    return _publish(publishing, identity, settings, Publishing.publish_only)


def longest_ttl(ttl: int, change: Change) -> int:
    """Return for how long a cache may keep any of the sets that a change is about.

    Args:
        ttl: Of the sets before, in seconds.
        change: What was changed.
    """
    return max(ttl, change.before.ttl, change.after.ttl)


def _publish(
    publishing: Publishing,
    identity: Bootstrap,
    settings: Settings,
    publish: Callable[[Publishing, Sequence[TlsaRecord]], Publication],
) -> Publication:
    # Also without a rotation: one that replaces a stolen key may start meanwhile.
    with alone(settings):
        state = state_file(settings).read()
        if state is not None and state.stage is Stage.LOWERED:
            publishing = publishing.with_ttl(min(LOWERED_TTL, settings.tlsa_ttl))
        publication = publish(publishing, records_to_publish(identity, settings))
        if state is not None and state.stage is Stage.PUBLISHED and state.new in publication.change.add:
            # Recipients may not have known it meanwhile.
            again = state.at(Stage.PUBLISHED, Instant.now(), ttl=longest_ttl(state.ttl, publication.change))
            with keys.locked(settings.crypto_path):
                state_file(settings).write(again)
        return publication
