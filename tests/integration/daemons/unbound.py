"""Unbound, the validating resolver, which trusts the zones of the lab and writes down every query."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.integration.daemons.namespace import Namespace
from tests.integration.daemons.process import LOOPBACK, Daemon, free_port

# Answers that a name does not exist are kept for no time, so that a record just published is found at once.
_SERVER = """\
server:
    interface: {address}
    port: {port}
    access-control: 127.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    log-queries: yes
    verbosity: 1
    ede: {extended_errors}
    num-threads: 1
    do-ip6: no
    do-not-query-localhost: no
    aggressive-nsec: no
    cache-max-negative-ttl: 0
    infra-keep-probing: yes
    module-config: "validator iterator"
    local-zone: "test." nodefault
    trust-anchor-file: "{anchors}"
"""


class Unbound(Daemon):
    """A resolver on loopback; nothing listens at port 853.

    Args:
        directory: An existing directory for configuration and log.
        authorities: For each zone the port of its name server on loopback.
        anchors: DS records of the zones that are to be validated, as zone-file lines.
        port: Where it listens; None picks a free port.
        namespace: The network namespace that it lives in.
        explains: Whether its answers say why validation failed (RFC 8914).
    """

    def __init__(
        self,
        directory: Path,
        authorities: Mapping[str, int],
        anchors: Iterable[str],
        port: int | None = None,
        *,
        namespace: Namespace | None = None,
        explains: bool = False,
    ) -> None:
        self.host = LOOPBACK
        self.port = port or free_port()
        trusted = directory / "anchors"
        trusted.write_text("".join(f"{ds}\n" for ds in anchors))
        text = _SERVER.format(
            address=LOOPBACK,
            port=self.port,
            directory=directory,
            anchors=trusted,
            extended_errors="yes" if explains else "no",
        )
        for zone, server in authorities.items():
            text += f'stub-zone:\n    name: "{zone}."\n    stub-addr: {LOOPBACK}@{server}\n'
        configuration = directory / "unbound.conf"
        configuration.write_text(text)
        super().__init__(
            ["unbound", "-d", "-c", str(configuration)],
            directory / "unbound.log",
            lambda log: "start of service" in log,
            namespace,
        )

    @property
    def address(self) -> str:
        """Address and port as DNS_RESOLVER takes them."""
        return f"{self.host}:{self.port}"

    def queries(self, name: str) -> int:
        """Return how often the TLSA records of a name were asked for."""
        return self.log.read_text().count(f" {name}. TLSA IN")
