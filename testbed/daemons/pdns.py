"""PowerDNS, the authoritative name server, with a zone in SQLite that accepts dynamic updates."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from testbed.daemons.process import LOOPBACK, Daemon, free_port, run_tool

_SCHEMA: Final = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
_CONFIGURATION: Final = """\
launch=gsqlite3
gsqlite3-database={directory}/pdns.sqlite3
gsqlite3-dnssec=yes
local-address={address}
local-port={port}
socket-dir={directory}
dnsupdate=yes
allow-dnsupdate-from=127.0.0.0/8
lua-dnsupdate-policy-script={directory}/policy.lua
receiver-threads=1
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
default-soa-content=ns.@ hostmaster.@ 0 3600 600 86400 3600
default-ttl=5
security-poll-suffix=
daemon=no
guardian=no
disable-syslog=yes
"""


class PowerDns(Daemon):
    """A name server on loopback with one zone, which it signs.

    Args:
        directory: An existing directory for configuration, log and database.
        zone: The zone's name, without the trailing dot.
        keys: For the name of each TSIG key of the server its secret; all are for hmac-sha256.
        policy: A Lua script for `lua-dnsupdate-policy-script`: who may change what.
    """

    def __init__(self, directory: Path, zone: str, keys: Mapping[str, str], policy: str) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self._directory = directory
        (directory / "policy.lua").write_text(policy)
        configuration = _CONFIGURATION.format(directory=directory, address=LOOPBACK, port=self.port)
        (directory / "pdns.conf").write_text(configuration)
        with closing(sqlite3.connect(directory / "pdns.sqlite3")) as database:
            database.executescript(_SCHEMA.read_text())
        self._tool("create-zone", zone, f"ns.{zone}")
        self._tool("add-record", zone, "ns", "A", LOOPBACK)
        self._tool("secure-zone", zone)
        for name, secret in keys.items():
            self._tool("import-tsig-key", name, "hmac-sha256", secret)
        super().__init__(
            ["pdns_server", f"--config-dir={directory}"],
            directory / "pdns.log",
            lambda log: "Done launching threads, ready to distribute questions" in log,
        )

    def _tool(self, *command: str) -> None:
        run_tool("pdnsutil", f"--config-dir={self._directory}", *command)
