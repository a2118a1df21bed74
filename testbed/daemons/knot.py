"""Knot DNS, the authoritative name server, with zones that it signs itself, as far away as name servers are."""

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.daemons.delay import Delay
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import LOOPBACK, Daemon, DaemonError, free_port, run_tool

_MAX_STRING_BYTES = 255

_SERVER = """\
server:
    listen: {address}@{port}
    rundir: {directory}
    tcp-workers: 1
    udp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: {directory}
template:
  - id: default
    storage: {directory}
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
"""
# DNS providers let a resolver cache an absence for an hour: the smaller one of the SOA record's TTL and last number.
_ZONE_FILE = """\
$ORIGIN {zone}.
$TTL 5
@ 3600 SOA ns hostmaster 1 3600 600 86400 3600
@ NS ns
ns A 127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of the server.

    Args:
        name: Without the trailing dot; empty for the root.
        signed: Whether the server signs it.
        policy: How it signs, as lines of its configuration.
        text: Its zone file; None for a zone with only the required records.
        acls: Who may transfer or change it, as ids of the server's acl section.
        master: The id of the server that it is transferred from, in the server's remote section; empty for a zone that
            it has itself.
    """

    name: str
    signed: bool = True
    policy: Sequence[str] = ("algorithm: ecdsap256sha256",)
    text: str = ""
    acls: Sequence[str] = ()
    master: str = ""


class Knot(Daemon):
    """A name server on loopback, 50 to 200 ms away; records are added and removed while it runs.

    Args:
        directory: An existing directory for configuration, log, zones and keys.
        zones: The zones that it serves.
        port: Its port; None picks a free one.
        namespace: The network namespace that it runs in.
        address: Its address, of loopback.
        extra: Further sections of its configuration, in front of the zones.
    """

    def __init__(
        self,
        directory: Path,
        zones: Iterable[Zone],
        port: int | None = None,
        *,
        namespace: Namespace | None = None,
        address: str = LOOPBACK,
        extra: str = "",
    ) -> None:
        self.host = address
        self.port = port or free_port()
        self.zones = tuple(zones)
        # A zone has one transaction at a time.
        self._changing = threading.Lock()
        own_port = free_port()
        self._delay = Delay(directory, {self.port: own_port}, address=address, namespace=namespace)
        self._configuration = directory / "knot.conf"
        text = _SERVER.format(address=address, port=own_port, directory=directory) + extra
        for zone in self.zones:
            if not zone.master:
                (directory / f"{zone.name}.zone").write_text(zone.text or _ZONE_FILE.format(zone=zone.name))
            text += _entry_of(zone)
        self._configuration.write_text(text)
        super().__init__(
            ["knotd", "-c", str(self._configuration)],
            directory / "knot.log",
            lambda log: all(_is_loaded(zone, log) for zone in self.zones) and "server started" in log,
            namespace,
        )

    def start(self, timeout: float = 15) -> None:
        """Start the name server and the process that delays its answers; for arguments see `Daemon.start`."""
        super().start(timeout)
        try:
            self._delay.start(timeout)
        except BaseException:
            super().stop()
            raise

    def stop(self) -> None:
        """Stop both cleanly."""
        self._delay.stop()
        super().stop()

    def kill(self) -> None:
        """End both by SIGKILL."""
        self._delay.kill()
        super().kill()

    def cut_off(self) -> None:
        """Let nothing reach the name server, which keeps its zones."""
        self._delay.stop()

    def reconnect(self) -> None:
        """Undo `cut_off`."""
        self._delay.start()

    def add_tlsa(self, name: str, record: str, ttl: int = 60) -> None:
        """Add a TLSA record.

        Args:
            name: The owner, without the trailing dot.
            record: As `3 0 0 HEX`.
            ttl: Seconds.
        """
        self.add_tlsa_to_all([name], record, ttl)

    def add_tlsa_to_all(self, names: Sequence[str], record: str, ttl: int = 60) -> None:
        """Add a TLSA record to names of one zone.

        Args:
            names: The owners, without trailing dots.
            record: As `3 0 0 HEX`.
            ttl: Seconds.
        """
        self._change("zone-set", names, str(ttl), "TLSA", *record.split())

    def add_txt(self, name: str, text: bytes, ttl: int = 60) -> None:
        """Add a TXT record, cut into character-strings of at most 255 bytes.

        Args:
            name: The owner, without the trailing dot.
            text: Printable ASCII without quotation marks and backslashes; at least one byte.
            ttl: Seconds.
        """
        strings = (text[start : start + _MAX_STRING_BYTES] for start in range(0, len(text), _MAX_STRING_BYTES))
        self._change("zone-set", [name], str(ttl), "TXT", *(f'"{string.decode()}"' for string in strings))

    def add_alias(self, name: str, target: str, ttl: int = 60) -> None:
        """Add a CNAME record.

        Args:
            name: The owner, without the trailing dot.
            target: The name that it is an alias of, without the trailing dot.
            ttl: Seconds.
        """
        self._change("zone-set", [name], str(ttl), "CNAME", f"{target}.")

    def remove_tlsa(self, name: str, *record: str) -> None:
        """Remove a TLSA record of a name, or all of them if none is given."""
        self._change("zone-unset", [name], "TLSA", *(word for text in record for word in text.split()))

    def remove_txt(self, name: str) -> None:
        """Remove all TXT records of a name."""
        self._change("zone-unset", [name], "TXT")

    def replace_tlsa(self, name: str, records: Sequence[str], ttl: int) -> None:
        """Replace all TLSA records of a name in one change.

        Args:
            name: The owner, without the trailing dot.
            records: Each as `3 0 0 HEX`; none removes them all.
            ttl: Seconds.
        """
        self.replace(name, "TLSA", records, ttl)

    def replace(self, name: str, kind: str, records: Sequence[str], ttl: int) -> None:
        """Replace all records of a name and type in one change.

        Args:
            name: The owner, without the trailing dot.
            kind: Their type.
            records: Each in presentation form; none removes them all.
            ttl: Seconds.
        """
        zone = self._zone_of(name)
        with self._changing:
            self._knotc("zone-begin", zone)
            try:
                # It fails if there are none.
                with suppress(DaemonError):
                    self._knotc("zone-unset", zone, f"{name}.", kind)
                for record in records:
                    self._knotc("zone-set", zone, f"{name}.", str(ttl), kind, *record.split())
            except BaseException:
                self._knotc("zone-abort", zone)
                raise
            self._knotc("zone-commit", zone)

    def transfer(self, zone: str) -> None:
        """Fetch a zone from its master now, and wait until it is there.

        Args:
            zone: Its name.
        """
        run_tool("knotc", "-b", "-c", str(self._configuration), "zone-retransfer", zone)

    def ds(self, zone: str) -> str:
        """Return the zone's DS record, SHA-256, as a zone-file line; its name ends in a dot."""
        lines = run_tool("keymgr", "-c", str(self._configuration), f"{zone}.", "ds").splitlines()
        words = next(line.split() for line in lines if line.split()[4] == "2")
        return " ".join([words[0], "IN", *words[1:]])

    def dnskey(self, zone: str) -> str:
        """Return the zone's key-signing DNSKEY record as a zone-file line."""
        line = run_tool("keymgr", "-c", str(self._configuration), f"{zone}.", "dnskey").splitlines()[0]
        owner, _, rest = line.partition(" ")
        return f"{owner} IN {rest}"

    def _change(self, command: str, names: Sequence[str], *words: str) -> None:
        zone = self._zone_of(names[0])
        with self._changing:
            self._knotc("zone-begin", zone)
            try:
                for name in names:
                    self._knotc(command, zone, f"{name}.", *words)
            except BaseException:
                self._knotc("zone-abort", zone)
                raise
            self._knotc("zone-commit", zone)

    def _zone_of(self, name: str) -> str:
        return next(zone.name for zone in self.zones if name.endswith(f".{zone.name}"))

    def _knotc(self, *command: str) -> None:
        run_tool("knotc", "-c", str(self._configuration), *command)


def _is_loaded(zone: Zone, log: str) -> bool:
    if zone.master:
        return f"[{zone.name}.] refresh, remote " in log and "zone updated" in log
    return f"[{zone.name}.] loaded, serial" in log


def _entry_of(zone: Zone) -> str:
    entry = f"zone:\n  - domain: {zone.name}.\n    file: {zone.name}.zone\n"
    entry += f"    acl: [{', '.join(zone.acls)}]\n" if zone.acls else ""
    entry += f"    master: {zone.master}\n" if zone.master else ""
    if not zone.signed:
        return entry
    policy = "".join(f"    {line}\n" for line in zone.policy)
    return f"policy:\n  - id: {zone.name}.\n{policy}{entry}    dnssec-signing: on\n    dnssec-policy: {zone.name}.\n"
