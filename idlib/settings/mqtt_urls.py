"""Reads the URL of an MQTT broker: `mqtt`, `mqtts`, `ws` or `wss`, a user but never a password, host, port and path."""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from idlib.settings.addresses import read_host
from idlib.settings.texts import integer_in, read_username
from idlib.settings.variable import SecretValueError

MQTT_URL_FORM: Final = "a URL such as mqtts://broker.example.com, or wss://USER@broker.example.com:8443/mqtt"
DEFAULT_PATH: Final = "/mqtt"
# The unreserved characters and the sub-delimiters (RFC 3986, section 2).
_PLAIN: Final = r"A-Za-z0-9._~!$&'()*+,;=\-"
_ENCODED: Final = "%[0-9A-Fa-f]{2}"
_URL: Final = re.compile(r"([^:/]*)://([^/?#]*)([^?#]*)([?#].*)?", re.DOTALL)
_USER: Final = re.compile(rf"(?:[{_PLAIN}]|{_ENCODED})+")
_PATH: Final = re.compile(rf"(?:/(?:[{_PLAIN}:@/]|{_ENCODED})*)?")
# An IPv6 address has a zone after %25 (RFC 6874).
_BRACKETED: Final = re.compile(rf"\[([0-9A-Fa-f:.]+)(?:%25([{_PLAIN}]+))?\](?::(.*))?", re.DOTALL)
_MAX_PATH_CHARACTERS: Final = 1024
_PORT_FAULT: Final = "has a port that is not a number from 1 to 65535"


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
    split = _URL.fullmatch(text)
    if split is None:
        raise SecretValueError("does not start with mqtt://, mqtts://, ws:// or wss://")
    scheme = _read_scheme(split[1])
    userinfo, at, place = split[2].rpartition("@")
    user = _read_user(userinfo) if at else None
    host, port = _read_place(place, scheme)
    if split[4]:
        raise SecretValueError("contains a query" if split[4].startswith("?") else "contains a fragment, after #")
    return MqttUrl(scheme, host, port, _read_url_path(split[3], scheme), user)


def _read_scheme(text: str) -> MqttScheme:
    try:
        return MqttScheme(text.lower())
    except ValueError as error:
        raise SecretValueError("has another scheme than mqtt://, mqtts://, ws:// and wss://") from error


def _read_user(text: str) -> str:
    if ":" in text:
        raise SecretValueError("contains a password, which belongs in a file")
    if not _USER.fullmatch(text):
        raise SecretValueError(
            "has a user name that is empty or not percent-encoded (in a URL, @ in a name is %40, and / is %2F)"
        )
    try:
        return read_username(urllib.parse.unquote(text, errors="strict"))
    except ValueError as error:
        raise SecretValueError("has a user name that MQTT cannot transmit") from error


def _read_place(text: str, scheme: MqttScheme) -> tuple[str, int]:
    """Return host and port."""
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        zone = "" if bracketed[2] is None else f"%{bracketed[2]}"
        host, port = f"{bracketed[1]}{zone}", bracketed[3]
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
        if ":" in (port or ""):
            raise SecretValueError("has an IPv6 address without brackets, or more than one port")
    try:
        host = str(ipaddress.IPv6Address(host)) if bracketed is not None else read_host(host)
    except ValueError as error:
        raise SecretValueError("has no host, or one that is neither a name nor an IP address") from error
    if port is None:
        return host, scheme.default_port
    try:
        return host, integer_in(range(1, 65536))(port)
    except ValueError as error:
        raise SecretValueError(_PORT_FAULT) from error


def _read_url_path(text: str, scheme: MqttScheme) -> str:
    if not scheme.is_websocket:
        if text not in {"", "/"}:
            raise SecretValueError("has a path, which only ws:// and wss:// have")
        return ""
    if len(text) > _MAX_PATH_CHARACTERS or not _PATH.fullmatch(text):
        raise SecretValueError(
            f"has a path that is not percent-encoded, or has more than {_MAX_PATH_CHARACTERS} characters"
        )
    return text or DEFAULT_PATH
