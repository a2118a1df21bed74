"""The IP addresses of a resolver that is named by its host name.

They need no authentication: at a false address no server can prove to be the host.
"""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from idlib.discovery.channel import ChannelError
from idlib.settings import HttpsResolver

_MAX_ADDRESSES: Final = 4
_HINT: Final = "check the host, or give its address in DNS_RESOLVER after #, as in {example}"

Opened = TypeVar("Opened")


class HostAddresses:
    """Looks up a resolver's host, and remembers the address that worked; any number of threads may share it.

    Args:
        resolver: The resolver; if its host is an address, or one is given, nothing is looked up.
    """

    def __init__(self, resolver: HttpsResolver) -> None:
        self._resolver = resolver
        given = resolver.address or (resolver.host if _is_address(resolver.host) else None)
        self._given = given
        self._proven: str | None = None

    def try_each(self, connect: Callable[[str, float], Opened], deadline: float) -> Opened:
        """Return what the first address gives that can be used.

        Args:
            connect: Connects to an address before a deadline; raises ChannelError.
            deadline: When to give up, as `time.monotonic` counts.

        Raises:
            ChannelError: The host has no address, or none can be used; the error is that of the first.
        """
        if self._given is not None:
            return connect(self._given, deadline)
        proven = self._proven
        if proven is not None:
            try:
                # The host may have moved, or the network changed: half of the time is for its new addresses.
                return connect(proven, _share(deadline, 2))
            except ChannelError:
                self._proven = None
        addresses = self._look_up(deadline)
        failures: list[ChannelError] = []
        for number, address in enumerate(addresses):
            try:
                opened = connect(address, _share(deadline, len(addresses) - number))
            except ChannelError as error:
                failures.append(error)
                continue
            self._proven = address
            return opened
        raise failures[0]

    def _look_up(self, deadline: float) -> Sequence[str]:
        found: list[str] = []
        faults: list[str] = []

        def ask() -> None:
            try:
                infos = socket.getaddrinfo(self._resolver.host, self._resolver.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                faults.append(f"{getattr(error, 'strerror', None) or error}")
            else:
                found.extend(dict.fromkeys(str(info[4][0]) for info in infos))

        # The system's resolver has no deadline, and may take a minute if DNS is silent.
        thread = threading.Thread(target=ask, name="Host", daemon=True)
        thread.start()
        thread.join(max(0.0, _share(deadline, 2) - time.monotonic()))
        if found:
            return found[:_MAX_ADDRESSES]
        example = f"{self._resolver}#192.0.2.1"
        why = f": {faults[0]}" if faults else " in time"
        raise ChannelError(f"has no address that the system's resolver finds{why}", _HINT.format(example=example))


def _share(deadline: float, parts: int) -> float:
    """Return the end of the first of equal parts of the time until a deadline."""
    now = time.monotonic()
    return now + max(0.0, deadline - now) / parts


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
