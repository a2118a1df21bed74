"""dnsdist, a load balancer of DNS, as another server of DNS over TLS and HTTPS in front of a resolver."""

from pathlib import Path

from testbed.daemons.process import LOOPBACK, Daemon, free_port


class Dnsdist(Daemon):
    """A server on loopback that passes queries on.

    Args:
        directory: An existing directory for configuration and log.
        upstream: The port of the resolver on loopback.
        certificate: The file of its certificate.
        key: The file of its key.
    """

    def __init__(self, directory: Path, upstream: int, certificate: Path, key: Path) -> None:
        self.tls_port, self.https_port = free_port(), free_port()
        configuration = directory / "dnsdist.conf"
        configuration.write_text(
            f'setLocal("{LOOPBACK}:{free_port()}")\n'
            # It would ask the root, which the lab does not have, and the vendor.
            f'newServer("{LOOPBACK}:{upstream}"):setUp()\nsetSecurityPollSuffix("")\n'
            f'addTLSLocal("{LOOPBACK}:{self.tls_port}", "{certificate}", "{key}")\n'
            f'addDOHLocal("{LOOPBACK}:{self.https_port}", "{certificate}", "{key}", "/dns-query")\n'
        )
        super().__init__(
            ["dnsdist", "--supervised", "--disable-syslog", "-C", str(configuration)],
            directory / "dnsdist.log",
            lambda log: "Console ACL allowing" in log,
        )
