"""HAProxy as what stands in front of servers at port 443: it ends TLS, or passes connections on as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.daemons.listening import is_listening
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import Daemon

_DEFAULTS: Final = """\
global
    log stdout format raw local0
    # The tests end it; connections that are still open must not keep it running.
    hard-stop-after 1s
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 5s
    timeout client 1h
    timeout server 1h
"""
_FRONT: Final = """\
frontend at-{address}-{port}
    bind {address}:{port}{tls}
    {rule}
    default_backend behind-{address}-{port}
backend behind-{address}-{port}
    server only {target}
"""


@dataclass(frozen=True, slots=True)
class Front:
    """A port that connections are passed on from.

    Args:
        address: Its address.
        target: `ADDRESS:PORT` of the server behind it.
        port: The port.
        pem: A file with a certificate and its key, to end TLS with; None passes on what comes.
        alpn: The protocol that the client must ask for with ALPN (RFC 7301); empty for no such demand.
    """

    address: str
    target: str
    port: int = 443
    pem: Path | None = None
    alpn: str = ""


class Haproxy(Daemon):
    """A process that accepts connections at each front and passes them on.

    Args:
        directory: An existing directory for configuration and log.
        fronts: Where it listens.
        namespace: The network namespace that it runs in.
    """

    def __init__(self, directory: Path, fronts: Sequence[Front], namespace: Namespace | None = None) -> None:
        configuration = directory / "haproxy.cfg"
        configuration.write_text(_DEFAULTS + "".join(map(_section, fronts)))
        super().__init__(
            ["haproxy", "-db", "-f", str(configuration)],
            directory / "haproxy.log",
            lambda _log: all(is_listening(front.address, front.port, namespace) for front in fronts),
            namespace,
        )


def _section(front: Front) -> str:
    tls = f" ssl crt {front.pem}" if front.pem is not None else ""
    tls += f" alpn {front.alpn}" if front.alpn else ""
    rule = f"tcp-request session reject unless {{ ssl_fc_alpn {front.alpn} }}" if front.alpn else ""
    return _FRONT.format(address=front.address, port=front.port, target=front.target, tls=tls, rule=rule)
