"""The router between a device and everything else: what it lets leave, where it leads packets, and what it counts."""

import json
from collections.abc import Sequence
from typing import Final

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import DaemonError, find, run_tool

# Prefixes for documentation (RFC 5737), which no real network uses.
DEVICE: Final = "192.0.2.2"
ROUTER: Final = "192.0.2.1"
_LINK: Final = "device"
_DEVICE_LINK: Final = "uplink"
# The counters count the first packet of each connection to port 53, and every packet that is dropped.
_RULES: Final = """\
table inet road
delete table inet road
table inet road {{
    counter dns {{ }}
    counter stopped {{ }}
    chain count {{
        type filter hook prerouting priority mangle; policy accept;
        iifname "{link}" ct state new meta l4proto {{ tcp, udp }} th dport 53 counter name dns
    }}
    chain lead {{
        type nat hook prerouting priority dstnat; policy accept;
        {led}
    }}
    chain filter {{
        type filter hook input priority filter; policy accept;
        iifname != "{link}" accept
        {allowed}
        counter name stopped drop
    }}
}}
"""


class Router:
    """The router of a device's network; it is where the servers are, because nothing lies between.

    At first it lets nothing leave.

    Args:
        inside: The network namespace of the device.
        outside: The one of the servers, which has created it.
        addresses: The addresses of the servers.
    """

    def __init__(self, inside: Namespace, outside: Namespace, addresses: Sequence[str]) -> None:
        self._inside = inside
        self._outside = outside
        try:
            self._connect(addresses)
            self.let_nothing_leave()
        except DaemonError as error:
            needed = "the kernel must have veth and nf_tables with NAT and connection tracking"
            raise DaemonError(f"no network with a router could be created; {needed}: {error}") from error

    def let_nothing_leave(self) -> None:
        """Drop every packet of the device; the packet gets no answer."""
        self._set()

    def let_everything_leave(self) -> None:
        """Drop nothing."""
        self._set("accept")

    def let_only_https_leave(self) -> None:
        """Drop every packet of the device that does not go to TCP port 443."""
        self._set("tcp dport 443 accept")

    def lead_dns_to(self, address: str) -> None:
        """Lead each query to port 53, whomever it is for, to another server, and let everything leave.

        Args:
            address: Of the server.
        """
        self._set("accept", f"meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {address}:53")

    def lead_https_to(self, address: str) -> None:
        """Lead each new connection to TCP port 443, whomever it is for, to another server, and let nothing else leave.

        Args:
            address: Of the server.
        """
        self._set("tcp dport 443 accept", f"tcp dport 443 dnat ip to {address}:443")

    def cut(self) -> None:
        """Take the link down: packets of connections are lost in both directions, and nobody is told."""
        self._run_outside("ip", "link", "set", _LINK, "down")

    def mend(self) -> None:
        """Undo `cut`."""
        self._run_outside("ip", "link", "set", _LINK, "up")

    def dns_queries(self) -> int:
        """Return how often the device has queried port 53, or connected to it, since the last rule."""
        return self._count("dns")

    def stopped_packets(self) -> int:
        """Return how many packets were dropped since the last rule."""
        return self._count("stopped")

    def _connect(self, addresses: Sequence[str]) -> None:
        holder = str(self._inside.process_id)
        peer = ("peer", "name", _DEVICE_LINK, "netns", holder)
        self._run_outside("ip", "link", "add", "name", _LINK, "type", "veth", *peer)
        for address in addresses:
            self._run_outside("ip", "address", "add", f"{address}/32", "dev", "lo")
        self._run_outside("ip", "address", "add", f"{ROUTER}/24", "dev", _LINK)
        self._run_outside("ip", "link", "set", _LINK, "up")
        self._run_inside("ip", "address", "add", f"{DEVICE}/24", "dev", _DEVICE_LINK)
        self._run_inside("ip", "link", "set", _DEVICE_LINK, "up")
        self._run_inside("ip", "route", "add", "default", "via", ROUTER)

    def _set(self, allowed: str = "", led: str = "") -> None:
        led = f'iifname "{_LINK}" {led}' if led else ""
        rules = _RULES.format(link=_LINK, allowed=allowed, led=led)
        run_tool(*self._outside.entrance, find("nft"), "--file", "-", stdin=rules)

    def _count(self, name: str) -> int:
        text = run_tool(*self._outside.entrance, find("nft"), "--json", "list", "counter", "inet", "road", name)
        counter = next(item["counter"] for item in json.loads(text)["nftables"] if "counter" in item)
        return int(counter["packets"])

    def _run_outside(self, command: str, *arguments: str) -> None:
        run_tool(*self._outside.entrance, find(command), *arguments)

    def _run_inside(self, command: str, *arguments: str) -> None:
        run_tool(*self._inside.entrance, find(command), *arguments)
