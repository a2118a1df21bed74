"""Whether something listens on a TCP port, also in another network namespace, without connecting to it."""

import socket
from pathlib import Path
from typing import Final

from testbed.daemons.namespace import Namespace

# The state TCP_LISTEN in the kernel's table.
_LISTENING: Final = "0A"


def is_listening(address: str, port: int, namespace: Namespace | None = None) -> bool:
    """Return whether something listens on a TCP port.

    Args:
        address: An IPv4 address.
        port: The port.
        namespace: Its network namespace; None is the one of the tests.
    """
    process = "self" if namespace is None else str(namespace.process_id)
    # The kernel writes the address as a number of this machine's byte order.
    number = int.from_bytes(socket.inet_aton(address)[::-1])
    wanted = f"{number:08X}:{port:04X}"
    lines = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    return any((words := line.split())[1] == wanted and words[3] == _LISTENING for line in lines)
