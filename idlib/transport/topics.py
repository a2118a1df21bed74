"""The topic of a device's name: the form of the name, and a prefix that a broker may demand."""

import re
from dataclasses import dataclass
from typing import Final, Self

from idlib.names import IdentityName
from idlib.settings import Settings, TopicFormat, read_topic_prefix

# RabbitMQ turns dots into slashes on the way to a subscriber, and other brokers may do the opposite.
_SEPARATORS: Final = re.compile(rb"[./]")


@dataclass(frozen=True, slots=True)
class Topics:
    """How topics are formed; a sender and its recipient must form them in the same way.

    Args:
        prefix: Put before the name as it is; a `/` between them is part of it.
        form: How the labels of the name are joined.

    Raises:
        UnfitValueError: The prefix cannot be the beginning of a topic.
    """

    prefix: str = ""
    form: TopicFormat = TopicFormat.DOTS

    def __post_init__(self) -> None:
        if self.prefix:
            read_topic_prefix(self.prefix)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return how topics are formed according to MQTT_TOPIC_PREFIX and MQTT_TOPIC_FORMAT."""
        return cls(settings.mqtt_topic_prefix or "", settings.mqtt_topic_format)

    def of(self, name: IdentityName | str) -> str:
        """Return the topic to which messages to a device are published.

        Args:
            name: Its name, also as the text of an `IdentityName`.
        """
        text = str(name)
        return self.prefix + (text.replace(".", "/") if self.form is TopicFormat.SLASHES else text)


def is_same_topic(topic: bytes, expected: str) -> bool:
    """Return whether a broker may have delivered a message on a topic because we subscribed to another one.

    Args:
        topic: The topic of the message.
        expected: The one that we subscribed to; dots and slashes count as equal.
    """
    wanted = expected.encode()
    return topic == wanted or _SEPARATORS.sub(b"/", topic) == _SEPARATORS.sub(b"/", wanted)
