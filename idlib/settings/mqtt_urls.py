"""Reads the URL of an MQTT broker: `mqtt`, `mqtts`, `ws` or `wss`, a user but never a password, host, port and path."""

import re
import urllib.parse
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from idlib.settings.addresses import read_host
from idlib.settings.urls import ENCODED, PLAIN, check_ends, read_place, read_user
from idlib.settings.variable import SecretValueError

MQTT_URL_FORM: Final = "a URL such as mqtts://broker.example.com, or wss://USER@broker.example.com:8443/mqtt"
DEFAULT_PATH: Final = "/mqtt"
_URL: Final = r"([^:/]*)://([^/?#]*)([^?#]*)([?#].*)?"
_PATH: Final = rf"(?:/(?:[{PLAIN}:@/]|{ENCODED})*)?"
_MAX_PATH_CHARACTERS: Final = 1024


class MqttScheme(StrEnum):
    """How MQTT is transmitted: over TCP or in WebSockets, with TLS or without."""

    MQTT = "mqtt"
    MQTTS = "mqtts"
    WS = "ws"
    WSS = "wss"

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS protects the connection."""
        return self in {MqttScheme.MQTTS, MqttScheme.WSS}

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT is transmitted in WebSockets (MQTT 5, section 6)."""
        return self in {MqttScheme.WS, MqttScheme.WSS}

    @property
    def default_port(self) -> int:
        """The port if the URL has none."""
        return _DEFAULT_PORTS[self]


_DEFAULT_PORTS: Final = {MqttScheme.MQTT: 1883, MqttScheme.MQTTS: 8883, MqttScheme.WS: 80, MqttScheme.WSS: 443}


@dataclass(frozen=True, slots=True)
class MqttUrl:
    """The URL of an MQTT broker (RFC 3986); `str` writes it with its port, and `read_mqtt_url` reads that again.

    Args:
        scheme: How MQTT is transmitted.
        host: A host name or an IP address.
        port: 1 to 65535.
        path: Where the server expects WebSockets, percent-encoded; empty without WebSockets.
        user: Our user name there; None if the URL has none.
    """

    scheme: MqttScheme
    host: str
    port: int
    path: str = ""
    user: str | None = None

    def __post_init__(self) -> None:
        if self.scheme.is_websocket != bool(self.path):
            raise ValueError("a path belongs to WebSockets")

    def __str__(self) -> str:
        user = "" if self.user is None else f"{urllib.parse.quote(self.user, safe='')}@"
        address = self.host.replace("%", "%25")
        host = f"[{address}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}{self.path}"


def read_mqtt_url(text: str) -> MqttUrl:
    """Return the URL of an MQTT broker. Its port defaults to that of the scheme, and its path to /mqtt.

    Args:
        text: Such as `mqtts://broker.example.com` or `wss://alice@broker.example.com:8443/mqtt`.

    Raises:
        SecretValueError: It is not such a URL, or contains a password.
    """
    check_ends(text)
    split = re.fullmatch(_URL, text, re.DOTALL)
    if split is None:
        raise SecretValueError("does not start with mqtt://, mqtts://, ws:// or wss://")
    scheme = _read_scheme(split[1])
    userinfo, at, place = split[2].rpartition("@")
    user = read_user(userinfo) if at else None
    host, port = read_place(place, scheme.default_port)
    if split[4]:
        raise SecretValueError("contains a query" if split[4].startswith("?") else "contains a fragment, after #")
    return MqttUrl(scheme, host, port, _read_url_path(split[3], scheme), user)


def read_broker_host(text: str) -> str:
    """Return the host of a broker that has no URL.

    Args:
        text: A host name or an IP address.

    Raises:
        ValueError: It is neither.
    """
    if "://" in text:
        raise SecretValueError("is a URL, which belongs in MQTT_URL")
    return read_host(text)


def _read_scheme(text: str) -> MqttScheme:
    try:
        return MqttScheme(text.lower())
    except ValueError as error:
        raise SecretValueError("has another scheme than mqtt://, mqtts://, ws:// and wss://") from error


def _read_url_path(text: str, scheme: MqttScheme) -> str:
    if not scheme.is_websocket:
        if text not in {"", "/"}:
            raise SecretValueError("has a path, which only ws:// and wss:// have")
        return ""
    if len(text) > _MAX_PATH_CHARACTERS or not re.fullmatch(_PATH, text):
        raise SecretValueError(
            f"has a path that is not percent-encoded, or has more than {_MAX_PATH_CHARACTERS} characters"
        )
    return text or DEFAULT_PATH
