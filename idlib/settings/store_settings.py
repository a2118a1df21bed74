"""Checks which settings of the database and of a group of receivers go together."""

from collections.abc import Iterator

from idlib.settings.choices import MqttVersion, Switch
from idlib.settings.values import Settings


def store_problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the settings of the database and of the group, a line each.

    Args:
        settings: From the environment.
    """
    if settings.store is None and settings.store_password_file is not None:
        yield "STORE_PASSWORD_FILE is set, and STORE is not: set STORE, or unset STORE_PASSWORD_FILE"
    if settings.receiver_group is Switch.OFF:
        if settings.subscription is not None:
            yield "SUBSCRIPTION is set, and RECEIVER_GROUP is off: set RECEIVER_GROUP=on, or unset SUBSCRIPTION"
        return
    if settings.store is None:
        yield "RECEIVER_GROUP is on, and STORE is not set: set STORE, or RECEIVER_GROUP=off"
    if settings.mqtt_version is MqttVersion.V311:
        yield "RECEIVER_GROUP is on, and MQTT_VERSION is 3.1.1, which has no shared subscriptions: set MQTT_VERSION=5"
    if settings.local_mqtt_url is not None:
        yield (
            "RECEIVER_GROUP is on, and LOCAL_MQTT_URL is set: only a single receiver passes messages on to a local"
            " broker; set RECEIVER_GROUP=off, or unset LOCAL_MQTT_URL"
        )
