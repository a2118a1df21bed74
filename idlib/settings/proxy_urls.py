"""Reads the URL of a proxy: `socks5` or `http`, a user but never a password, host and port."""

import re
import urllib.parse
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from idlib.settings.urls import check_ends, read_place, read_user
from idlib.settings.variable import SecretValueError

PROXY_URL_FORM: Final = "a URL such as socks5://proxy.example.com:1080, or http://USER@proxy.example.com:3128"
# The most that SOCKS 5 can transmit of a user name and of a password (RFC 1929, section 2).
MAX_LOGIN_BYTES: Final = 255
_URL: Final = r"([^:/]*)://([^/?#]*)(/?)(.*)"


class ProxyScheme(StrEnum):
    """The protocol that a proxy speaks: SOCKS 5 (RFC 1928), or the method CONNECT of HTTP (RFC 9110, section 9.3.6)."""

    SOCKS5 = "socks5"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """The URL of a proxy; `str` shows it without the user.

    Args:
        scheme: The protocol that it speaks.
        host: A host name or an IP address.
        port: 1 to 65535.
        user: Our user name there; None if the URL has none.
    """

    scheme: ProxyScheme
    host: str
    port: int
    user: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URL, which `read_proxy_url` reads again."""
        user = "" if self.user is None else f"{urllib.parse.quote(self.user, safe='')}@"
        return str(self).replace("://", f"://{user}", 1)


def read_proxy_url(text: str) -> ProxyUrl:
    """Return the URL of a proxy.

    Args:
        text: Such as `socks5://proxy.example.com:1080` or `http://alice@proxy.example.com:3128`.

    Raises:
        SecretValueError: It is not such a URL, or contains a password.
    """
    check_ends(text)
    split = re.fullmatch(_URL, text, re.DOTALL)
    if split is None:
        raise SecretValueError("does not start with socks5:// or http://")
    try:
        scheme = ProxyScheme(split[1].lower())
    except ValueError as error:
        raise SecretValueError("has another scheme than socks5:// and http://") from error
    if split[4]:
        raise SecretValueError("has something after the port")
    userinfo, at, place = split[2].rpartition("@")
    user = read_user(userinfo) if at else None
    if user is not None and len(user.encode()) > MAX_LOGIN_BYTES:
        raise SecretValueError(f"has a user name of more than {MAX_LOGIN_BYTES} bytes")
    return ProxyUrl(scheme, *read_place(place, None), user)
