"""Unbound, the validating resolver, as shipped, except that it trusts the zones of the lab and logs every query."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon, free_port

_SHIPPED: Final = Path(__file__).parents[2] / "resolver/unbound.conf"
# The address and trust anchors of the lab's resolver, instead of those of the shipped configuration.
_PLACES: Final = {
    "interface: 0.0.0.0": "interface: {address}\n    port: {port}",
    'directory: "/etc/unbound"': 'directory: "{directory}"',
    'auto-trust-anchor-file: "/var/lib/unbound/root.key"': 'trust-anchor-file: "{anchors}"',
}
# Further settings for the lab. None makes an answer faster, or its cache time shorter, than on a device.
_LAB: Final = """
server:
    msg-cache-size: 32m
    rrset-cache-size: 64m
    # The lab's name servers are on loopback, and their zones below .test, which Unbound would answer for itself.
    do-not-query-localhost: no
    local-zone: "test." nodefault
    # Queries are counted.
    log-queries: yes
    verbosity: 1
    logfile: ""
    # Not all other resolvers report why validation failed, so most tests do not use it.
    ede: {extended_errors}
"""


@dataclass(frozen=True)
class Encryption:
    """What a resolver needs to be asked over TLS and HTTPS besides.

    Args:
        certificate: The file of its certificate.
        key: The file of its key.
        tls_port: Its port for DNS over TLS.
        https_port: Its port for DNS over HTTPS.
    """

    certificate: Path
    key: Path
    tls_port: int = field(default_factory=free_port)
    https_port: int = field(default_factory=free_port)

    @property
    def configuration(self) -> str:
        """The lines of unbound.conf."""
        return (
            f"server:\n    interface: {LOOPBACK}@{self.tls_port}\n    interface: {LOOPBACK}@{self.https_port}\n"
            f"    tls-port: {self.tls_port}\n    https-port: {self.https_port}\n"
            f"    tls-service-pem: {self.certificate}\n    tls-service-key: {self.key}\n"
        )


class Unbound(Daemon):
    """A resolver on loopback; nothing listens at port 853 unless it is told to.

    Args:
        directory: An existing directory for configuration and log.
        authorities: For each zone the port of its name server on loopback.
        anchors: DS records of the zones to validate, as zone-file lines.
        port: Its port; None picks a free one.
        namespace: The network namespace that it runs in.
        explains: Whether its answers have the reason why validation failed (RFC 8914).
        extra: Further lines of its configuration.
        encryption: How it is asked over TLS and HTTPS; None if it is not.
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
        extra: str = "",
        encryption: Encryption | None = None,
    ) -> None:
        self.host = LOOPBACK
        self.port = port or free_port()
        trusted = directory / "anchors"
        trusted.write_text("".join(f"{ds}\n" for ds in anchors))
        text = _configured(
            address=LOOPBACK,
            port=self.port,
            directory=directory,
            anchors=trusted,
            extended_errors="yes" if explains else "no",
        )
        for zone, server in authorities.items():
            text += f'stub-zone:\n    name: "{zone}."\n    stub-addr: {LOOPBACK}@{server}\n'
        configuration = directory / "unbound.conf"
        encrypted = encryption.configuration if encryption else ""
        configuration.write_text(text + extra + encrypted)
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
        """Return how often the TLSA records of a name were queried."""
        return self.log.read_text().count(f" {name}. TLSA IN")


def _configured(**values: object) -> str:
    """Return the shipped configuration, adapted to the lab."""
    text = _SHIPPED.read_text()
    for line, replacement in _PLACES.items():
        assert text.count(f"    {line}\n") == 1, f"{_SHIPPED} has no line {line!r}"
        text = text.replace(line, replacement.format_map(values))
    return text + _LAB.format_map(values)
