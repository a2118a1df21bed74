"""Connects to a broker through a proxy that speaks SOCKS 5 (RFC 1928) or HTTP CONNECT (RFC 9110, section 9.3.6)."""

import socket
from typing import Final

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.sync import Proxy

from idlib.settings import ProxyScheme, ProxyUrl
from idlib.transport.dialing import DialError

_TYPES: Final = {ProxyScheme.SOCKS5: ProxyType.SOCKS5, ProxyScheme.HTTP: ProxyType.HTTP}
_CHECK_PROXY: Final = "check MQTT_PROXY, and that the proxy is running"
_CHECK_LOGIN: Final = "check the user name in MQTT_PROXY and the first line of MQTT_PROXY_PASSWORD_FILE"
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
        timeout: Seconds that the proxy may take for each answer.

    Raises:
        DialError: The proxy cannot be reached, refuses, or does not answer.
    """
    dialer = Proxy(_TYPES[proxy.scheme], proxy.host, proxy.port, proxy.user, password, rdns=True)
    try:
        return dialer.connect(*place, timeout=timeout)
    except ProxyTimeoutError as error:
        raise DialError(f"the proxy {proxy} does not answer within {timeout:g} s", _CHECK_PROXY) from error
    except ProxyConnectionError as error:
        raise _unreachable(proxy, error.__cause__ or error) from error
    except ProxyError as error:
        raise _refused(proxy, error) from error
    except OSError as error:
        raise _unreachable(proxy, error) from error
    except (ValueError, RuntimeError, AssertionError) as error:
        raise DialError(f"the proxy {proxy} does not answer as {_protocol(proxy)} does", _NOT_THE_PROTOCOL) from error


def _unreachable(proxy: ProxyUrl, error: BaseException) -> DialError:
    what = error.strerror if isinstance(error, OSError) and error.strerror else "the connection failed"
    return DialError(f"the proxy {proxy} cannot be reached: {what}", _CHECK_PROXY)


def _refused(proxy: ProxyUrl, error: ProxyError) -> DialError:
    """Return what the proxy has answered in our own words, because its own could be anything."""
    login = _SET_LOGIN if proxy.user is None else _CHECK_LOGIN
    if error.error_code is None:
        if str(error) in _LOGIN_REFUSED:
            what = "requires a login" if proxy.user is None else "refuses the login"
            return DialError(f"the proxy {proxy} {what}", login)
        return DialError(f"the proxy {proxy} does not answer as {_protocol(proxy)} does", _NOT_THE_PROTOCOL)
    code = int(error.error_code)
    if proxy.scheme is ProxyScheme.SOCKS5:
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
