"""Reads where the resolver is asked: over UDP and TCP, over TLS (RFC 7858), or over HTTPS (RFC 8484)."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from idlib.settings.addresses import ServerAddress, read_host, read_server_address
from idlib.settings.texts import integer_in
from idlib.settings.variable import SecretValueError, UnfitValueError

TLS_PORT: Final = 853
HTTPS_PORT: Final = 443
USUAL_PATH: Final = "/dns-query"
_TLS_SCHEME: Final = "tls://"
_HTTPS_SCHEME: Final = "https://"
_MAX_PATH_CHARACTERS: Final = 1024
_PATH: Final = r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"
_HOST_AND_PORT: Final = r"(\[[^][]*\]|[^][:]*)(?::([0-9]{1,5}))?"
_PORTS: Final = range(1, 65536)


@dataclass(frozen=True, slots=True)
class TlsResolver:
    """A resolver that is asked over TLS (RFC 7858).

    Args:
        address: An IPv4 or IPv6 address.
        port: 1 to 65535.
        name: The host name that its certificate must be for; None if it must be for the address.
    """

    address: str
    port: int = TLS_PORT
    name: str | None = None

    def __str__(self) -> str:
        name = "" if self.name is None else f"#{self.name}"
        return f"{_TLS_SCHEME}{_authority(self.address, self.port, TLS_PORT)}{name}"

    @property
    def certified(self) -> str:
        """What the certificate must be for: a host name, or an IP address."""
        return self.name or self.address.partition("%")[0]


@dataclass(frozen=True, slots=True)
class HttpsResolver:
    """A resolver that is asked over HTTPS (RFC 8484).

    Args:
        host: A host name or an IP address, which its certificate must be for.
        port: 1 to 65535.
        path: The path of its address.
        address: The IP address to connect to; None if the system looks it up.
    """

    host: str
    port: int = HTTPS_PORT
    path: str = USUAL_PATH
    address: str | None = None

    def __str__(self) -> str:
        address = "" if self.address is None else f"#{self.address}"
        return f"{_HTTPS_SCHEME}{self.authority}{self.path}{address}"

    @property
    def authority(self) -> str:
        """The host, and the port if it is not the usual one (RFC 3986, section 3.2)."""
        return _authority(self.host, self.port, HTTPS_PORT)

    @property
    def certified(self) -> str:
        """What the certificate must be for: a host name, or an IP address."""
        return self.host


EncryptedResolver = TlsResolver | HttpsResolver
ResolverAddress = ServerAddress | EncryptedResolver


def read_resolver(text: str) -> ResolverAddress:
    """Return where the resolver is asked, and how.

    Args:
        text: An IP address with or without a port, tls://ADDRESS[:PORT][#NAME] or https://HOST[:PORT][/PATH][#ADDRESS].

    Raises:
        SecretValueError: It is none of these, and may contain a password.
        ValueError: It is none of these.
    """
    try:
        return _read(text)
    except ValueError as error:
        if "@" in text:
            raise SecretValueError("has a user, who is not sent to a resolver") from error
        raise


def _read(text: str) -> ResolverAddress:
    # The address of an IPv6 zone may hold anything, also a line break.
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(text)
    if text.startswith(_TLS_SCHEME):
        return _read_tls(text.removeprefix(_TLS_SCHEME))
    if text.startswith(_HTTPS_SCHEME):
        return _read_https(text.removeprefix(_HTTPS_SCHEME))
    return read_server_address(text)


def _read_tls(text: str) -> TlsResolver:
    place, mark, name = text.partition("#")
    host, colon, _ = place.partition(":")
    if place.count(":") <= len(colon) and _is_host_name(host):
        raise UnfitValueError(f"has no IP address, which comes before the name, as in {_TLS_SCHEME}192.0.2.1#{host}")
    address = read_server_address(place, TLS_PORT)
    if not mark:
        return TlsResolver(address.address, address.port)
    if not _is_host_name(name):
        raise UnfitValueError("has no host name after #, which its certificate must be for")
    return TlsResolver(address.address, address.port, read_host(name).lower())


def _read_https(text: str) -> HttpsResolver:
    place, mark, address = text.partition("#")
    if "{" in place or "?" in place:
        raise SecretValueError("has a query, such as {?dns}: give only the path")
    authority, slash, rest = place.partition("/")
    path = slash + rest or USUAL_PATH
    split = re.fullmatch(_HOST_AND_PORT, authority)
    if not split or not re.fullmatch(_PATH, path) or len(path) > _MAX_PATH_CHARACTERS:
        raise ValueError(text)
    host = _read_https_host(split[1])
    port = integer_in(_PORTS)(split[2] or str(HTTPS_PORT))
    if not mark:
        return HttpsResolver(host, port, path)
    if not _is_host_name(host):
        raise UnfitValueError("has an address after #, although its host is an address")
    try:
        return HttpsResolver(host, port, path, str(ipaddress.ip_address(address)))
    except ValueError as error:
        raise UnfitValueError("has no IP address after #, to which to connect") from error


def _read_https_host(text: str) -> str:
    if text.startswith("[") and "%" not in text:
        return str(ipaddress.IPv6Address(text[1:-1]))
    if _is_host_name(text):
        return read_host(text).lower()
    return str(ipaddress.IPv4Address(text))


def _is_host_name(text: str) -> bool:
    """Return whether a text is a host name, and not an address or something that is meant to be one."""
    if re.fullmatch(r"[0-9.]*", text):
        return False
    try:
        return ":" not in text and bool(read_host(text))
    except ValueError:
        return False


def _authority(host: str, port: int, usual: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == usual else f"{shown}:{port}"
