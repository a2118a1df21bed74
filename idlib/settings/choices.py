"""The settings that are a choice between words."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeVar

_WORDS_FOR_ON: Final = frozenset({"on", "true", "yes", "1"})
_WORDS_FOR_OFF: Final = frozenset({"off", "false", "no", "0"})

Kind = TypeVar("Kind", bound=StrEnum)


class DnssecPolicy(StrEnum):
    """Whether an answer from DNS must be authenticated."""

    ON = "on"
    OFF = "off"


class OutputFormat(StrEnum):
    """How the receiver prints a message."""

    TEXT = "text"
    JSON = "json"


class Switch(StrEnum):
    """Whether a feature is on."""

    ON = "on"
    OFF = "off"


class MqttVersion(StrEnum):
    """The MQTT version used with the broker."""

    V5 = "5"
    V311 = "3.1.1"


class TopicFormat(StrEnum):
    """How a device's name is written in a topic."""

    DOTS = "dots"
    SLASHES = "slashes"


class KeyType(StrEnum):
    """The type and size of a new private key."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    P256 = "p256"


class PublishMethod(StrEnum):
    """How the device's records are put into DNS."""

    RFC2136 = "rfc2136"
    DESEC = "desec"
    COMMAND = "command"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line on stderr is written."""

    TEXT = "text"
    JSON = "json"


def switch(kind: type[Kind]) -> Callable[[str], Kind]:
    """Return a function that reads a switch, which accepts the common words for on and off.

    Args:
        kind: A choice between "on" and "off"; the function raises ValueError for a word that is neither.
    """

    def read(text: str) -> Kind:
        word = text.lower()
        return kind("on" if word in _WORDS_FOR_ON else "off" if word in _WORDS_FOR_OFF else text)

    return read


def words(choices: type[StrEnum]) -> str:
    """Return the words of a choice, for error messages.

    Args:
        choices: The choice.
    """
    return " or ".join(choices)
