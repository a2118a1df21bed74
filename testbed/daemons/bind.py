"""BIND, the authoritative name server, with zones that accept dynamic updates and that it signs itself."""

from pathlib import Path
from typing import Final

from testbed.daemons.process import LOOPBACK, Daemon, free_port

_CONFIGURATION: Final = """\
options {{
    directory "{directory}";
    listen-on port {port} {{ {address}; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    dnssec-validation no;
    recursion no;
    notify no;
    allow-transfer {{ none; }};
}};
controls {{ }};
{keys}
zone "{zone}" {{
    type primary;
    file "{zone}.zone";
    dnssec-policy default;
    {policy}
}};
"""
_ZONE_FILE: Final = """\
$ORIGIN {zone}.
$TTL 5
@ 3600 SOA ns hostmaster 1 3600 600 86400 3600
@ NS ns
ns A 127.0.0.1
"""


class Bind(Daemon):
    """A name server on loopback with one zone.

    Args:
        directory: An existing directory for configuration, log, zone and keys.
        zone: The zone's name, without the trailing dot.
        keys: TSIG keys, as tsig-keygen writes them.
        policy: The zone's statement update-policy.
    """

    def __init__(self, directory: Path, zone: str, keys: str, policy: str) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        (directory / f"{zone}.zone").write_text(_ZONE_FILE.format(zone=zone))
        configuration = directory / "named.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                directory=directory, port=self.port, address=LOOPBACK, keys=keys, zone=zone, policy=policy
            )
        )
        super().__init__(
            ["named", "-g", "-n", "1", "-c", str(configuration)],
            directory / "named.log",
            lambda log: " running" in log and f"zone {zone}/IN" in log,
        )
