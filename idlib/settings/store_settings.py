"""Checks which settings of the database and of a group of receivers go together."""

from collections.abc import Iterator
from typing import Final

from idlib.settings.choices import MqttVersion, Switch
from idlib.settings.values import Settings

# How the topic filter of a shared subscription begins (MQTT 5, section 4.8.2).
SHARED: Final = "$share/"


def is_in_group(settings: Settings) -> bool:
    """Return whether this program is a receiver of a group.

    Args:
        settings: From the environment; only a receiver reads RECEIVER_GROUP.
    """
    return settings.receiver_group is Switch.ON


def store_problems(settings: Settings, topic: str) -> Iterator[str]:
    """Yield what is wrong with the settings of the database and of the group, a line each.

    Args:
        settings: From the environment.
        topic: That of messages to this device.
    """
    if settings.store is None and settings.store_password_file is not None:
        yield "STORE_PASSWORD_FILE is set, and STORE is not: set STORE, or unset STORE_PASSWORD_FILE"
    if not is_in_group(settings):
        if settings.subscription is not None:
            yield "SUBSCRIPTION is set, and RECEIVER_GROUP is off: set RECEIVER_GROUP=on, or unset SUBSCRIPTION"
        return
    if settings.store is None:
        yield "RECEIVER_GROUP is on, and STORE is not set: set STORE, or RECEIVER_GROUP=off"
    if settings.mqtt_version is MqttVersion.V311:
        yield (
            "RECEIVER_GROUP is on, and MQTT_VERSION is 3.1.1, which has no shared subscriptions: set MQTT_VERSION=5,"
            " and use a broker that speaks it, or RECEIVER_GROUP=off"
        )
    if settings.local_mqtt_url is not None:
        yield (
            "RECEIVER_GROUP is on, and LOCAL_MQTT_URL is set: only a single receiver passes messages on to a local"
            " broker; set RECEIVER_GROUP=off, or unset LOCAL_MQTT_URL"
        )
    if settings.subscription is not None and settings.subscription.startswith(SHARED):
        yield from _subscription_problems(settings.subscription, topic)


def _subscription_problems(subscription: str, topic: str) -> Iterator[str]:
    """Yield what is wrong with a shared subscription; it has no wildcards, so it must name the topic itself.

    Only the name of a queue of the broker's own need not be the topic: the broker's configuration says what is in it.
    """
    # The name of the group is not shown: at many brokers, anyone who knows it can take messages away.
    group, _, shared = subscription.removeprefix(SHARED).partition("/")
    remedy = f"set it to {SHARED}GROUP/{topic}, or unset it"
    if not group or not shared:
        yield f"SUBSCRIPTION has no group, or no topic: {remedy}"
    elif shared != topic:
        yield (
            f"SUBSCRIPTION is a shared subscription to {shared!a}, and messages to this device have the topic"
            f" {topic!a}: {remedy}"
        )
