"""Unbound, the validating resolver, which trusts the zones of the lab and writes down every query."""

from collections.abc import Mapping
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
        authority: Port of the name server on loopback that is asked for every zone.
        zones: The zones, and for each the DS record that is trusted, or None where it is known to be unsigned.
        port: Where it listens; None picks a free port.
        namespace: The network namespace that it lives in.
        elsewhere: Zones that nothing is known of, and the ports of their own name servers on loopback.
    """

    def __init__(
        self,
        directory: Path,
        authority: int,
        zones: Mapping[str, str | None],
        port: int | None = None,
        *,
        namespace: Namespace | None = None,
        elsewhere: Mapping[str, int] | None = None,
    ) -> None:
        self.host = LOOPBACK
        self.port = port or free_port()
        anchors = directory / "anchors"
        anchors.write_text("".join(f"{ds}\n" for ds in zones.values() if ds))
        text = _SERVER.format(address=LOOPBACK, port=self.port, directory=directory, anchors=anchors)
        text += "".join(f'    domain-insecure: "{zone}."\n' for zone, ds in zones.items() if ds is None)
        for zone, server in (dict.fromkeys(zones, authority) | dict(elsewhere or {})).items():
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
