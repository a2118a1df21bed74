"""Name servers of three makes whose zones accept dynamic updates, and devices with a name in such a zone."""

import itertools
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from idlib.bootstrap import Bootstrap
from idlib.settings import MAINTENANCE_READS, load
from testbed.daemons.bind import Bind
from testbed.daemons.knot import Knot, Zone
from testbed.daemons.pdns import PowerDns
from testbed.daemons.process import LOOPBACK, find, run_tool
from testbed.daemons.unbound import Unbound
from testbed.programs import PUBLISH_TLSA, Device, Result
from tests.documents import block

DNS: Final = "docs/dns.md"
# They may change: the TLSA records of every device; what the documents grant to one device; nothing; the TLSA and epoch
# records of every device.
PUBLISHER, NARROW, POWERLESS, KEEPER = KEYS = ("publisher", "alice", "powerless", "keeper")
NARROW_LABEL: Final = "alice"
MAKES: Final = ("knot", "bind", "pdns")
# Beside what docs/dns.md gives to the key of one device.
_KNOT_ACL: Final = """\
acl:
  - id: publisher
    key: publisher
    action: update
    update-type: TLSA
    update-owner: name
    update-owner-match: sub
    update-owner-name: _device
  - id: keeper
    key: keeper
    action: update
    update-type: [TLSA, TXT]
    update-owner: name
    update-owner-match: sub
    update-owner-name: _device
"""
_BIND_GRANT: Final = "grant publisher subdomain _device.{zone} TLSA; grant keeper subdomain _device.{zone} TLSA TXT;"
_PDNS_POLICY: Final = """\
local documented = updatepolicy
function updatepolicy(update)
    local key, type = update:getTsigName(), update:getQType()
    return documented(update) or update:getQName():isPartOf(newDN("_device.{zone}"))
        and (type == pdns.TLSA and (key:equal("publisher") or key:equal("keeper"))
            or type == pdns.TXT and key:equal("keeper"))
end
"""
_SECRET: Final = re.compile(r'secret:? "?([A-Za-z0-9+/=]+)')


@dataclass(frozen=True)
class Authority:
    """A name server and its zone.

    Args:
        make: Which software it is.
        zone: The zone's name.
        port: Where it is asked on 127.0.0.1.
        directory: For the files of devices.
        key_files: For each TSIG key of the server the file that a tool wrote.
        resolver: The address of a resolver that finds the zone.
    """

    make: str
    zone: str
    port: int
    directory: Path
    key_files: Mapping[str, Path]
    resolver: str
    _counter: "itertools.count[int]" = field(default_factory=itertools.count)

    def device(self, label: str, *, key: str = PUBLISHER, numbered: bool = True) -> Device:
        """Return a new device with a key and a certificate that can publish.

        Args:
            label: The first part of its name.
            key: The TSIG key that it has.
            numbered: Whether its name is different from that of any other.
        """
        number = next(self._counter)
        name = f"{label}-{number}._device.{self.zone}" if numbered else f"{label}._device.{self.zone}"
        crypto_path = self.directory / f"{label}-{number}"
        crypto_path.mkdir()
        settings = {
            "IDENTITY_NAME": name,
            "CRYPTO_PATH": str(crypto_path),
            "KEY_TYPE": "p256",
            "TLSA_TTL": "60",
            "DNS_RESOLVER": self.resolver,
            "DNS_SERVER_PORT": str(self.port),
            "DNS_PUBLISH": "rfc2136",
            "DNS_UPDATE_KEY_FILE": str(self.key_files[key]),
        }
        device = Device(name, crypto_path, settings)
        create_identity(device)
        return device

    def records(self, name: str, *words: str) -> list[str]:
        """Return what the name server has at a name, as `3 0 0 HEX`, in the words of dig."""
        command = [find("dig"), f"@{LOOPBACK}", "-p", str(self.port), name, "TLSA", "+short", "+norecurse", *words]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return sorted(_normal(line) for line in shown.splitlines())

    def update(self, *lines: str) -> None:
        """Change the zone with nsupdate and the key for the TLSA records of all devices."""
        self.update_with(PUBLISHER, *lines)

    def update_with(self, key: str, *lines: str) -> None:
        """Change the zone with nsupdate and one of the keys."""
        text = "\n".join([f"server {LOOPBACK} {self.port}", f"zone {self.zone}", *lines, "send\n"])
        path = (self.directory / f"nsupdate-{key}.key").resolve()
        if not path.exists():
            self.write_bind_key(key, path)
        run_tool("nsupdate", "-k", str(path), stdin=text)

    def write_bind_key(self, key: str, path: Path) -> None:
        """Write a key in the form that nsupdate reads."""
        secret = secret_in(self.key_files[key])
        path.write_text(f'key "{key}" {{ algorithm hmac-sha256; secret "{secret}"; }};\n')

    def commanding(self, device: Device, key: str, home: Path) -> Device:
        """Return a device that publishes with the documents' command for nsupdate, and a key."""
        (home / "messenger").mkdir()
        self.write_bind_key(key, home / "messenger" / "update.key")
        command = block(DNS, "a command with nsupdate")
        command = command.replace("server ns1.example.com", f"server {LOOPBACK} {self.port}")
        return device.with_settings(DNS_PUBLISH="command", DNS_PUBLISH_COMMAND=command, HOME=str(home))

    def add(self, name: str, record: str, ttl: int = 60) -> None:
        """Add a record in presentation form."""
        self.update(f"update add {name}. {ttl} TLSA {record}")


def create_identity(device: Device) -> None:
    """Create a key and a certificate, without waiting for create_selfsigned_id.py to start."""
    Bootstrap.from_settings(load(device.settings, MAINTENANCE_READS)).create_selfsigned_identity()


def publish(device: Device, *arguments: str) -> Result:
    """Run publish_tlsa.py; what it prints never has the secret."""
    result = device.run(PUBLISH_TLSA, *arguments)
    path = Path(device.settings["DNS_UPDATE_KEY_FILE"])
    if path.exists() and (found := _SECRET.search(path.read_text())):
        assert found[1] not in result.stdout + result.stderr
    return result


def secret_in(path: Path) -> str:
    """Return the secret in a file that one of the tools wrote."""
    found = _SECRET.search(path.read_text())
    assert found, path
    return found[1]


def _normal(line: str) -> str:
    usage, selector, matching_type, *digits = line.split()
    return f"{usage} {selector} {matching_type} {''.join(digits).lower()}"


def write_keys(directory: Path, make: str, zone: str) -> dict[str, Path]:
    """Return the files that a server's own tool writes for each of its keys.

    Args:
        directory: For the files.
        make: Which software the server is.
        zone: The server's zone.
    """
    tools = {
        "knot": ("keymgr", "-t", "{name}", "hmac-sha256"),
        "bind": ("tsig-keygen", "-a", "hmac-sha256", "{name}"),
        # PowerDNS has no format of its own; what BIND's tool writes has instructions around the key.
        "pdns": ("ddns-confgen", "-a", "hmac-sha256", "-k", "{name}", "-z", zone),
    }
    files = {}
    for name in KEYS:
        files[name] = directory / f"{name}.key"
        files[name].write_text(run_tool(*(word.format(name=name) for word in tools[make])))
        files[name].chmod(0o600)
    return files


@contextmanager
def running(make: str, directory: Path) -> Iterator[Authority]:
    """Start a name server and a resolver.

    Args:
        make: One of MAKES.
        directory: For their files.
    """
    zone = f"{make}.test"
    places = {name: directory / name for name in ("server", "resolver", "devices", "keys")}
    for place in places.values():
        place.mkdir(parents=True)
    keys = write_keys(places["keys"], make, zone)
    server: Knot | Bind | PowerDns
    if make == "knot":
        text = "key:\n" + "".join(path.read_text().partition("key:\n")[2] for path in keys.values())
        acls = (PUBLISHER, NARROW, f"{NARROW}-epochs", KEEPER)
        granted = block(DNS, "the grant in Knot").partition("\nzone:")[0].partition("acl:\n")[2]
        server = Knot(places["server"], [Zone(zone, acls=acls)], extra=text + _KNOT_ACL + granted)
    elif make == "bind":
        text = "".join(path.read_text() for path in keys.values())
        granted = block(DNS, "the grant in BIND").replace("example.com", zone)
        policy = granted.replace("}", f"{_BIND_GRANT.format(zone=zone)} }}")
        server = Bind(places["server"], zone, text, policy)
    else:
        secrets = {name: secret_in(path) for name, path in keys.items()}
        granted = block(DNS, "the grant in PowerDNS").replace("example.com", zone)
        server = PowerDns(places["server"], zone, secrets, granted + _PDNS_POLICY.format(zone=zone))
    with server, Unbound(places["resolver"], {zone: server.port}, (), extra=PATIENT) as resolver:
        yield Authority(make, zone, server.port, places["devices"], keys, resolver.address)


# Most resolvers remember for an hour that a name does not exist; the one that is shipped forgets it at once.
PATIENT: Final = "server:\n    cache-max-negative-ttl: 3600\n"
