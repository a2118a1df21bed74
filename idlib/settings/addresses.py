"""Reads hosts, addresses of DNS servers and addresses of web APIs."""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass
from typing import Final

from idlib.settings.texts import integer_in
from idlib.settings.variable import UnfitValueError

DNS_PORT: Final = 53
_LOOPBACK: Final = "127.0.0.1"
_PORTS: Final = range(1, 65536)
_MAX_HOST_CHARACTERS: Final = 253
# The names that Python's codec for host names can encode; it raises other errors for the rest.
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_HOST_AND_PORT: Final = re.compile(r"[^:]+:[0-9]{1,5}|\[[^]]*\]:[0-9]{1,5}")
_THIS_MACHINE: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The address of a DNS server.

    Args:
        address: An IPv4 or IPv6 address.
        port: 1 to 65535.
    """

    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostAddress:
    """A host and a port.

    Args:
        host: A host name or an IP address.
        port: 1 to 65535.
    """

    host: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def suspected_port(address: str) -> tuple[str, str] | None:
    """Return address and port if an IPv6 address was probably meant to include a port, without brackets; else None.

    Args:
        address: For example ::1:53, which is a valid address without a port.
    """
    shorter, _, port = address.rpartition(":")
    if not re.fullmatch("[0-9]{2,4}", port):
        return None
    try:
        ipaddress.IPv6Address(shorter)
    except ValueError:
        return None
    return shorter, port


def read_host(text: str) -> str:
    """Return a host name, without the trailing dot of an absolute name, or an IP address.

    Args:
        text: The value of a variable.

    Raises:
        ValueError: It is neither.
    """
    if _HOST_AND_PORT.fullmatch(text):
        raise UnfitValueError("contains a port, which belongs in MQTT_PORT")
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    if len(text) > _MAX_HOST_CHARACTERS or not _HOST.fullmatch(text):
        raise ValueError(text)
    # Certificates name hosts without the dot at the end of an absolute name.
    return text.removesuffix(".")


def read_server_address(text: str, usual_port: int = DNS_PORT) -> ServerAddress:
    """Return the address of a DNS server.

    Args:
        text: An IP address, with a port as 192.0.2.1:5353 or [2001:db8::1]:5353.
        usual_port: The port if the text has none.

    Raises:
        ValueError: It is none.
    """
    bracketed = re.fullmatch(r"\[([^]]+)\](?::([0-9]{1,5}))?", text)
    dotted = re.fullmatch(r"([0-9.]+):([0-9]{1,5})", text)
    split = bracketed or dotted
    address, port = (split[1], split[2] or str(usual_port)) if split else (text, str(usual_port))
    if bracketed:
        ipaddress.IPv6Address(address)
    return ServerAddress(str(ipaddress.ip_address(address)), integer_in(range(1, 65536))(port))


def read_metrics_address(text: str) -> ServerAddress:
    """Return where metrics are served: on the loopback address if there is only a port.

    Args:
        text: A port, a port after a colon, or an IP address with a port as 192.0.2.1:9400 or [2001:db8::1]:9400.

    Raises:
        ValueError: It is none.
    """
    only_port = re.fullmatch(r":?([0-9]{1,5})", text)
    if only_port:
        return ServerAddress(_LOOPBACK, integer_in(_PORTS)(only_port[1]))
    split = re.fullmatch(r"\[([^]]+)\]:([0-9]{1,5})|([0-9.]+):([0-9]{1,5})", text)
    if not split:
        raise ValueError(text)
    address = ipaddress.IPv6Address(split[1]) if split[1] else ipaddress.IPv4Address(split[3])
    return ServerAddress(str(address), integer_in(_PORTS)(split[2] or split[4]))


def read_host_address(text: str) -> HostAddress:
    """Return a host and a port, which defaults to 53.

    Args:
        text: A host name or an IP address, with a port as ns1.example.com:5353 or [2001:db8::1]:5353.

    Raises:
        ValueError: It is neither.
    """
    split = re.fullmatch(r"\[([^]]+)\](?::([0-9]{1,5}))?|([^:]+):([0-9]{1,5})", text)
    host = (split[1] or split[3]) if split else text
    port = (split[2] or split[4]) if split else None
    if split and split[1]:
        ipaddress.IPv6Address(host)
    return HostAddress(read_host(host), integer_in(range(1, 65536))(port or str(DNS_PORT)))


def read_api_url(text: str) -> str:
    """Return the address of a web API, with a slash at its end, so that paths can be appended.

    Args:
        text: The value of a variable.

    Raises:
        ValueError: It is not such an address, or one that is not on this machine without encryption.
    """
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(text)
    parts = urllib.parse.urlsplit(text)
    host = read_host(parts.hostname or "")
    if parts.scheme not in ("https", "http") or parts.port == 0 or set("@?#\\") & set(text):
        raise ValueError(text)
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise UnfitValueError("would send the token without encryption")
    return text if text.endswith("/") else f"{text}/"
