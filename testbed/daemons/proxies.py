"""Proxies that connect to what their clients name: microsocks for SOCKS5, Tinyproxy for HTTP CONNECT."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from testbed.daemons.listening import is_listening
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon, free_port

_TINYPROXY: Final = """\
Listen {address}
Port {port}
Timeout 600
MaxClients 100
LogLevel Info
{ports}
{login}
"""


class Microsocks(Daemon):
    """A SOCKS5 proxy (RFC 1928), which looks host names up itself.

    Args:
        directory: An existing directory for its log.
        address: Its address.
        port: Its port; None picks a free one.
        login: The user name and password that it demands (RFC 1929); None for no login.
        namespace: The network namespace that it runs in.
    """

    def __init__(
        self,
        directory: Path,
        address: str = LOOPBACK,
        port: int | None = None,
        *,
        login: tuple[str, str] | None = None,
        namespace: Namespace | None = None,
    ) -> None:
        self.host = address
        self.port = listening = port or free_port()
        demanded = ["-u", login[0], "-P", login[1]] if login else []
        super().__init__(
            ["microsocks", "-i", address, "-p", str(listening), *demanded],
            directory / "microsocks.log",
            lambda _log: is_listening(address, listening, namespace),
            namespace,
        )


class Tinyproxy(Daemon):
    """An HTTP proxy with the method CONNECT (RFC 9110, section 9.3.6).

    Args:
        directory: An existing directory for its configuration and log.
        address: Its address.
        port: Its port; None picks a free one.
        login: The user name and password that it demands (RFC 7617); None for no login.
        namespace: The network namespace that it runs in.
        allowed: The ports that it connects to; networks that have such a proxy often allow only that of HTTPS.
    """

    def __init__(
        self,
        directory: Path,
        address: str = LOOPBACK,
        port: int | None = None,
        *,
        login: tuple[str, str] | None = None,
        namespace: Namespace | None = None,
        allowed: Sequence[int] = (443, 1883, 8883),
    ) -> None:
        self.host = address
        self.port = listening = port or free_port()
        configuration = directory / "tinyproxy.conf"
        demanded = f"BasicAuth {login[0]} {login[1]}" if login else ""
        ports = "\n".join(f"ConnectPort {number}" for number in allowed)
        configuration.write_text(_TINYPROXY.format(address=address, port=listening, login=demanded, ports=ports))
        super().__init__(
            ["tinyproxy", "-d", "-c", str(configuration)],
            directory / "tinyproxy.log",
            lambda _log: is_listening(address, listening, namespace),
            namespace,
        )
