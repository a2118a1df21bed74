"""Connects to a broker through a proxy that speaks SOCKS 5 (RFC 1928) or HTTP CONNECT (RFC 9110, section 9.3.6)."""

import socket
import time
from typing import Final, cast

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.sync import Proxy

from idlib.settings import ProxyScheme, ProxyUrl
from idlib.transport.dialing import DialError

_TYPES: Final = {ProxyScheme.SOCKS5: ProxyType.SOCKS5, ProxyScheme.HTTP: ProxyType.HTTP}
_CHECK_PROXY: Final = "check MQTT_PROXY, and that the proxy is running"
_CHECK_LOGIN: Final = "check the user name in MQTT_PROXY and the first line of MQTT_PROXY_PASSWORD_FILE"
_CHANGE_LOGIN: Final = "use a login at the proxy of ASCII characters, and no colon in the user name"
_SET_LOGIN: Final = "put a user name into MQTT_PROXY, and set MQTT_PROXY_PASSWORD_FILE"
_ASK_OPERATOR: Final = "ask its operator to allow the broker, or use a port that it allows, which is usually 443"
_CHECK_BROKER: Final = "check the broker's host and port: the proxy looks the host up, not this device"
_NOT_THE_PROTOCOL: Final = "check the scheme and the port in MQTT_PROXY"
# RFC 1928, section 6.
_SOCKS_REPLIES: Final = {
    1: ("reports a general failure", "look for the reason in the proxy's log"),
    2: ("does not allow this connection", _ASK_OPERATOR),
    3: ("cannot reach the network of the broker", _CHECK_BROKER),
    4: ("cannot reach the host of the broker", _CHECK_BROKER),
    5: ("reports that the broker refuses the connection", _CHECK_BROKER),
    6: ("reports that the way to the broker is too long", _CHECK_BROKER),
    7: ("does not know the command CONNECT", "use another proxy"),
    8: ("does not know this type of address", "name the broker by its host name, or by an IPv4 address"),
}
# RFC 9110, section 15.
_HTTP_STATUS: Final = range(100, 600)
_MAX_HEAD_BYTES: Final = 16384
_HTTP_FORBIDDEN: Final = frozenset({403, 405})
# Tinyproxy answers a wrong login with 401, which is not for proxies.
_HTTP_LOGIN: Final = frozenset({401, 407})
_HTTP_NO_BROKER: Final = frozenset({500, 502, 503, 504})
# What the library says if the proxy refuses a login.
_LOGIN_REFUSED: Final = frozenset(
    {"Username and password authentication failure", "No acceptable authentication methods were offered"}
)


def connect_through(proxy: ProxyUrl, password: str | None, place: tuple[str, int], timeout: float) -> socket.socket:
    """Return a connection to a server through a proxy, which looks up the server's name.

    Args:
        proxy: The proxy.
        password: The password there; None if there is no login.
        place: Host and port of the server.
        timeout: Seconds that the proxy may take to accept a connection, and again for all its answers.

    Raises:
        DialError: The proxy cannot be reached, refuses, or does not answer; or the login cannot be sent to it.
    """
    if not _can_transmit(proxy, password):
        raise DialError(f"the login at the proxy {proxy} has characters that cannot be sent to it", _CHANGE_LOGIN)
    link = _Link(is_http=proxy.scheme is ProxyScheme.HTTP)
    # The library takes a connection to the proxy from another proxy.
    dialer = Proxy(
        _TYPES[proxy.scheme], proxy.host, proxy.port, proxy.user, password, rdns=True, forward=cast("Proxy", link)
    )
    try:
        return cast("_Link", dialer.connect(*place, timeout=timeout)).connection
    except (ProxyTimeoutError, TimeoutError) as error:
        raise DialError(f"the proxy {proxy} does not answer within {timeout:g} s", _CHECK_PROXY) from error
    except ProxyError as error:
        raise _refused(proxy, error) from error
    except OSError as error:
        raise _unreachable(proxy, error) from error
    except (ValueError, RuntimeError, AssertionError) as error:
        raise DialError(f"the proxy {proxy} does not answer as {_protocol(proxy)} does", _NOT_THE_PROTOCOL) from error


def _can_transmit(proxy: ProxyUrl, password: str | None) -> bool:
    """Return whether a proxy can be sent the login, as far as the library encodes it (RFC 7617, section 2)."""
    is_http = proxy.scheme is ProxyScheme.HTTP
    user = proxy.user or ""
    try:
        f"{user}{password or ''}".encode("latin-1" if is_http else "ascii")
    except UnicodeEncodeError:
        return False
    return not (is_http and ":" in user)


class _Link:
    """A connection to a proxy as the library uses a socket.

    The library waits for each byte anew, and takes whatever comes first for the whole answer over HTTP.

    Args:
        is_http: Whether the proxy answers over HTTP.
    """

    def __init__(self, *, is_http: bool) -> None:
        self._is_http = is_http
        self._deadline = 0.0

    def connect(self, dest_host: str, dest_port: int, timeout: float) -> "_Link":
        """Connect to the proxy, which then has as many seconds again for all its answers."""
        self.connection = socket.create_connection((dest_host, dest_port), timeout)
        self._deadline = time.monotonic() + timeout
        return self

    def sendall(self, data: bytes) -> None:
        """Send a request."""
        self._wait_at_most()
        self.connection.sendall(data)

    def recv(self, size: int) -> bytes:
        """Return the next bytes; over HTTP, everything up to the end of the header, and nothing that follows."""
        return self._head() if self._is_http else self._next(size)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := self._next(1)):
            head += byte
            if len(head) > _MAX_HEAD_BYTES:
                raise ValueError(f"more than {_MAX_HEAD_BYTES} bytes of a header")
        if head and not head.startswith(b"HTTP/1."):
            raise ValueError("something other than HTTP")
        return head

    def _next(self, size: int) -> bytes:
        self._wait_at_most()
        return self.connection.recv(size)

    def _wait_at_most(self) -> None:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        self.connection.settimeout(seconds)


def _unreachable(proxy: ProxyUrl, error: OSError) -> DialError:
    what = error.strerror or "the connection failed"
    return DialError(f"the proxy {proxy} cannot be reached: {what}", _CHECK_PROXY)


def _refused(proxy: ProxyUrl, error: ProxyError) -> DialError:
    """Return what the proxy has answered in our own words, because its own could be anything."""
    login = _SET_LOGIN if proxy.user is None else _CHECK_LOGIN
    is_http = proxy.scheme is ProxyScheme.HTTP
    if error.error_code is None or (is_http and error.error_code not in _HTTP_STATUS):
        if str(error) in _LOGIN_REFUSED:
            what = "requires a login" if proxy.user is None else "refuses the login"
            return DialError(f"the proxy {proxy} {what}", login)
        return DialError(f"the proxy {proxy} does not answer as {_protocol(proxy)} does", _NOT_THE_PROTOCOL)
    code = int(error.error_code)
    if not is_http:
        fact, hint = _SOCKS_REPLIES.get(code, (f"answers with code {code}", "look for the reason in the proxy's log"))
        return DialError(f"the proxy {proxy} {fact}", hint)
    fact = f"the proxy {proxy} answers with HTTP status {code}"
    if code in _HTTP_LOGIN:
        return DialError(fact, login)
    if code in _HTTP_FORBIDDEN:
        return DialError(fact, _ASK_OPERATOR)
    if code in _HTTP_NO_BROKER:
        return DialError(fact, _CHECK_BROKER)
    return DialError(fact, f"{_NOT_THE_PROTOCOL}, or look for the reason in the proxy's log")


def _protocol(proxy: ProxyUrl) -> str:
    return "a SOCKS 5 proxy" if proxy.scheme is ProxyScheme.SOCKS5 else "an HTTP proxy"
