"""Publishing at deSEC: the real program, against the stand-in for deSEC, whose zone Knot signs and serves."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from idlib.names import IdentityName
from idlib.publishing.change import PublishedSet, shorten
from idlib.publishing.name_servers import read_from
from idlib.publishing.record_types import tlsa_place
from idlib.settings import ServerAddress
from testbed.daemons.knot import Knot, Zone
from testbed.daemons.process import LOOPBACK, find, free_port, run_tool
from testbed.daemons.unbound import Unbound
from testbed.desec.exchange import Reply
from testbed.desec.limits import MINIMUM_TTL
from testbed.desec.server import DesecServer
from testbed.desec.tokens import Policy
from testbed.lab import wait_until
from testbed.programs import CREATE_SELFSIGNED_ID, ROOT, Device, Result
from tests.documents import block

DNS = "docs/dns.md"
DOMAIN = "example.dedyn.io"
PUBLISH_TLSA = ROOT / "applications/maintenance/src/publish_tlsa.py"
NEW_IDENTITY = ROOT / "applications/maintenance/src/new_identity.py"
FOREIGN = "3 1 0 " + "3059" * 20
NUMBERS = itertools.count()


@dataclass(frozen=True)
class ZoneServers:
    """The zone's name server, and a resolver that trusts it."""

    knot: Knot
    unbound: Unbound

    def served(self, name: str) -> PublishedSet:
        """Return the records that the zone's name server has."""
        return read_from(ServerAddress(self.knot.host, self.knot.port), tlsa_place(IdentityName(name)))

    def resolved(self, name: str) -> str:
        """Return the resolver's answer."""
        return run_tool("kdig", f"@{self.unbound.host}", "-p", str(self.unbound.port), name, "TLSA", "+dnssec")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZoneServers]:
    knot_path, unbound_path = (tmp_path_factory.mktemp(name) for name in ("knot", "unbound"))
    with (
        Knot(knot_path, [Zone(DOMAIN)]) as knot,
        Unbound(unbound_path, {DOMAIN: knot.port}, [knot.ds(DOMAIN)]) as unbound,
    ):
        yield ZoneServers(knot, unbound)


@pytest.fixture
def desec(servers: ZoneServers) -> Iterator[DesecServer]:
    with DesecServer({DOMAIN: MINIMUM_TTL}, servers.knot.replace) as server:
        yield server


@pytest.fixture
def device(servers: ZoneServers, desec: DesecServer, tmp_path: Path) -> Device:
    """Return a device with a key, and with a token that may change its own record only."""
    name = f"alice-{next(NUMBERS)}._device.{DOMAIN}"
    device = new_device(name, tmp_path / "identity", servers, desec)
    assert device.run(CREATE_SELFSIGNED_ID).status == 0
    return with_token(device, desec.token_for(name), tmp_path)


def new_device(name: str, crypto_path: Path, servers: ZoneServers, desec: DesecServer) -> Device:
    crypto_path.mkdir()
    settings = {
        "IDENTITY_NAME": name,
        "CRYPTO_PATH": str(crypto_path),
        "KEY_TYPE": "p256",
        "DNS_RESOLVER": servers.unbound.address,
        "DNS_SERVER_PORT": str(servers.knot.port),
        "DNS_PUBLISH": "desec",
        "DESEC_URL": desec.url,
    }
    return Device(name, crypto_path, settings)


def with_token(device: Device, token: str, directory: Path) -> Device:
    path = directory / "desec.token"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return device.with_settings(DESEC_TOKEN_FILE=str(path))


def secrets_of(desec: DesecServer) -> set[str]:
    return {*desec.tokens, *(request.authorization.removeprefix("Token ") for request in desec.requests)} - {""}


def publish(device: Device, desec: DesecServer, *arguments: str) -> Result:
    """Run the program with every log line, and look for a token in what it prints."""
    result = device.with_settings(LOG_LEVEL="debug").run(PUBLISH_TLSA, *arguments)
    assert not [token for token in secrets_of(desec) if token in result.stdout + result.stderr]
    return result


def rdata(record: str) -> bytes:
    *parameters, digits = record.split()
    return bytes(map(int, parameters)) + bytes.fromhex(digits)


def test_a_record_is_published_and_read_back(device: Device, desec: DesecServer, servers: ZoneServers) -> None:
    result = publish(device, desec)
    assert result.status == 0, result
    assert result.stdout.splitlines() == [
        f"added    {shorten(rdata(device.tlsa_record()))}",
        f"Every name server of {DOMAIN} agrees: ns.{DOMAIN} ({LOOPBACK}:{servers.knot.port}).",
        "Resolvers that were asked before may report for up to 3600 s that there is no record.",
    ]
    assert servers.served(device.name) == PublishedSet.of(3600, [rdata(device.tlsa_record())])
    wait_until(lambda: "TLSA\t3 0 0 " in servers.resolved(device.name), "record in the resolver")
    assert "; Flags: qr rd ra ad;" in servers.resolved(device.name)
    (write,) = desec.sent("PATCH")
    subname = device.name.removesuffix(f".{DOMAIN}")
    assert write.document == [{"subname": subname, "type": "TLSA", "ttl": 3600, "records": [device.tlsa_record()]}]


def test_a_second_run_changes_nothing_and_says_so(device: Device, desec: DesecServer, servers: ZoneServers) -> None:
    assert publish(device, desec).status == 0
    command = [str(Path(sys.executable).parent / "dane-messenger"), "identity", "publish"]
    again = subprocess.run(command, env=device.environment(), capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[0] == f"Nothing to change: {device.name} has its record, with a TTL of 3600 s."
    assert len(again.stdout.splitlines()) == 2
    assert len(desec.sent("PATCH")) == 1


def test_a_change_of_the_ttl_only_is_one_line(device: Device, desec: DesecServer, servers: ZoneServers) -> None:
    desec.put(device.name, [device.tlsa_record()], 7200)
    result = publish(device, desec)
    assert result.status == 0
    first, second, third = result.stdout.splitlines()
    assert first == "changed  the TTL from 7200 s to 3600 s"
    assert second.startswith("Every name server")
    assert third == "Caches may hold the old records for another 7200 s."
    assert servers.served(device.name).ttl == 3600


def test_a_longer_ttl_is_kept_if_it_is_wanted(device: Device, desec: DesecServer, servers: ZoneServers) -> None:
    assert publish(device.with_settings(TLSA_TTL="7200"), desec).status == 0
    assert servers.served(device.name).ttl == 7200
    too_long = publish(device.with_settings(TLSA_TTL="604800"), desec)
    assert too_long.status == 1
    assert "Bad value of env var TLSA_TTL: '604800'" in too_long.stderr
    assert servers.served(device.name).ttl == 7200


def test_a_foreign_record_stays_until_it_is_removed(
    device: Device, desec: DesecServer, servers: ZoneServers, tmp_path: Path
) -> None:
    desec.put(device.name, [FOREIGN])
    own, foreign = rdata(device.tlsa_record()), rdata(FOREIGN)
    result = publish(device, desec)
    assert result.status == 0
    kept = f"kept     {FOREIGN[:22]}…  (unknown key; {PUBLISH_TLSA} --remove-foreign removes it)"
    assert kept in result.stdout.splitlines()
    assert servers.served(device.name) == PublishedSet.of(3600, [own, foreign])
    result = publish(device, desec, "--remove-foreign")
    assert (result.status, result.stdout.splitlines()[0]) == (0, f"removed  {FOREIGN[:22]}…")
    assert servers.served(device.name) == PublishedSet.of(3600, [own])
    # From a machine that has the credential only.
    elsewhere = new_device(device.name, tmp_path / "elsewhere", servers, desec)
    elsewhere = elsewhere.with_settings(DESEC_TOKEN_FILE=device.settings["DESEC_TOKEN_FILE"])
    result = publish(elsewhere, desec, "--remove")
    assert (result.status, result.stdout.splitlines()[0]) == (0, f"Removed 1 record of {device.name}.")
    assert servers.served(device.name) == PublishedSet.of(0, ())
    assert desec.tlsa(device.name) is None
    result = publish(elsewhere, desec, "--remove")
    assert result.stdout.splitlines()[0] == f"Nothing to change: {device.name} has no TLSA record."


def test_of_two_at_once_none_is_lost(device: Device, desec: DesecServer, servers: ZoneServers, tmp_path: Path) -> None:
    other = new_device(device.name, tmp_path / "other", servers, desec)
    assert other.run(CREATE_SELFSIGNED_ID).status == 0
    other = other.with_settings(DESEC_TOKEN_FILE=device.settings["DESEC_TOKEN_FILE"])
    results: list[Result] = []
    # The other one publishes after this one has read the records, and before it has written them.
    desec.after_next("GET", lambda: results.append(other.run(PUBLISH_TLSA)))
    results.append(publish(device, desec))
    assert [result.status for result in results] == [0, 0], results
    assert servers.served(device.name) == PublishedSet.of(3600, map(rdata, (device.tlsa_record(), other.tlsa_record())))


def test_the_maintenance_service_keeps_the_zone_from_being_deleted(
    device: Device, desec: DesecServer, servers: ZoneServers
) -> None:
    """The writes of publishing are not counted, so the first check makes one, and another follows after 30 days."""
    check, path = ROOT / "messaging_maintenance/watch.py", device.crypto_path / "maintenance-health.json"
    day = 24 * 3600

    def renewals() -> list[Any]:
        # The checks change nothing.
        _, *writes = [request.document for request in desec.sent("PATCH", "PUT")]
        assert all(set(*document) == {"subname", "type"} for document in writes), writes
        assert servers.served(device.name).rdatas == (rdata(device.tlsa_record()),)
        return writes

    def pretend(**fields: float) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    assert publish(device, desec).status == 0
    for _ in range(2):
        assert device.run(check).status == 0
        assert len(renewals()) == 1
    pretend(renewed=time.time() - 29 * day)
    assert device.run(check).status == 0
    assert len(renewals()) == 1
    # Too long ago, and in the future: the clock was wrong.
    for number, renewed in enumerate((time.time() - 31 * day, time.time() + day), 2):
        pretend(renewed=renewed)
        assert device.run(check).status == 0
        assert len(renewals()) == number
        assert json.loads(path.read_text())["renewed"] == pytest.approx(time.time(), abs=60)


def test_a_failed_renewal_is_reported_and_tried_again(device: Device, desec: DesecServer, tmp_path: Path) -> None:
    check = ROOT / "messaging_maintenance/watch.py"
    assert publish(device, desec).status == 0
    failed = with_token(device, desec.add_token(Policy()), tmp_path).run(check)
    assert failed.status != 0
    assert "deSEC does not let the token change TLSA records" in failed.stderr
    assert json.loads((device.crypto_path / "maintenance-health.json").read_text())["renewed"] == 0
    succeeded = with_token(device, desec.token_for(device.name), tmp_path).run(check)
    assert succeeded.status == 0, succeeded
    assert "Identity check succeeded again" in succeeded.stderr


def test_a_short_pause_is_waited_for(device: Device, desec: DesecServer) -> None:
    throttled = Reply(429, {"detail": "Request was throttled."}, {"Retry-After": "1"})
    desec.after_next("GET", lambda: desec.reply_next(throttled))
    result = publish(device, desec)
    assert result.status == 0
    assert "deSEC limits requests: waiting 1 s" in result.stderr
    assert desec.tlsa(device.name) is not None


Prepare = Callable[[DesecServer, Device], Mapping[str, str]]


def invalid_token(desec: DesecServer, device: Device) -> Mapping[str, str]:
    desec.tokens.clear()
    return {}


def another_name(desec: DesecServer, device: Device) -> Mapping[str, str]:
    for token in desec.tokens.values():
        token.policies[:] = [Policy(), Policy(DOMAIN, "bob._device", "TLSA", perm_write=True)]
    return {}


def another_account(desec: DesecServer, device: Device) -> Mapping[str, str]:
    desec.domains.clear()
    return {}


def busy(desec: DesecServer, device: Device) -> Mapping[str, str]:
    desec.reply_next(Reply(429, {"detail": "Expected available in 3000 seconds."}, {"Retry-After": "3000"}))
    return {}


def redirecting(desec: DesecServer, device: Device) -> Mapping[str, str]:
    desec.reply_next(Reply(302, b"", {"Location": "http://192.0.2.1/login"}))
    return {}


def garbage(desec: DesecServer, device: Device) -> Mapping[str, str]:
    desec.reply_next(Reply(200, b"<html>Welcome</html>"))
    return {}


def failing(desec: DesecServer, device: Device) -> Mapping[str, str]:
    desec.reply_next(Reply(500, {"detail": "Internal Server Error. We're on it!"}))
    return {}


def down(desec: DesecServer, device: Device) -> Mapping[str, str]:
    return {"DESEC_URL": f"http://{LOOPBACK}:{free_port()}/api/v1/"}


def elsewhere(desec: DesecServer, device: Device) -> Mapping[str, str]:
    return {"DESEC_URL": f"{desec.origin}/other/"}


def open_to_others(desec: DesecServer, device: Device) -> Mapping[str, str]:
    Path(device.settings["DESEC_TOKEN_FILE"]).chmod(0o644)
    return {}


def a_whole_header(desec: DesecServer, device: Device) -> Mapping[str, str]:
    path = Path(device.settings["DESEC_TOKEN_FILE"])
    path.write_text(f"Authorization: Token {path.read_text()}")
    return {}


def unprintable(desec: DesecServer, device: Device) -> Mapping[str, str]:
    path = Path(device.settings["DESEC_TOKEN_FILE"])
    path.write_text(f"{path.read_text().strip()}\x00\x01\n")
    return {}


def no_file(desec: DesecServer, device: Device) -> Mapping[str, str]:
    return {"DESEC_TOKEN_FILE": "/nonexistent/desec.token"}


FAILURES: list[tuple[Prepare, str, str]] = [
    (invalid_token, "deSEC rejects the token: Invalid token;", "put a valid one into DESEC_TOKEN_FILE"),
    (
        another_name,
        "deSEC does not let the token change TLSA records at alice-",
        "check IDENTITY_NAME; if it is right, give the token a policy with write permission",
    ),
    (
        another_account,
        f"the deSEC account of the token has no domain {DOMAIN}",
        "use a token of the account that has it",
    ),
    (busy, "deSEC accepts no request of this kind for 3000 s: Expected available in", "try again after that"),
    (redirecting, "redirects the request to another address", "a network with a login page also redirects"),
    (garbage, "the answer of deSEC cannot be read", "check DESEC_URL"),
    (failing, "deSEC fails with status 500: Internal Server Error. We're on it!", "run the command again later"),
    (down, "cannot be reached: Connection refused", "check the network"),
    (elsewhere, "has no API of deSEC at this address", "check DESEC_URL"),
    (open_to_others, "other users can read or write the credential", "run chmod 600"),
    (a_whole_header, "does not hold exactly one token", "put only the token there"),
    (unprintable, "does not hold exactly one token", "put only the token there"),
    (no_file, "there is no '/nonexistent/desec.token'", "put the credential there"),
]


@pytest.mark.parametrize(("prepare", "fact", "hint"), FAILURES, ids=[prepare.__name__ for prepare, _, _ in FAILURES])
def test_each_failure_has_its_own_hint(
    prepare: Prepare, fact: str, hint: str, device: Device, desec: DesecServer, servers: ZoneServers
) -> None:
    token = Path(device.settings["DESEC_TOKEN_FILE"]).read_text().strip()
    result = publish(device.with_settings(**prepare(desec, device)), desec)
    assert (result.status, result.stdout) == (10, "")
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert fact in error
    assert hint in error
    assert token not in result.stderr
    assert "Traceback" not in result.stderr
    assert not desec.record_sets
    assert servers.served(device.name) == PublishedSet.of(0, ())


def test_a_token_file_must_be_set(device: Device, desec: DesecServer) -> None:
    result = publish(device.without_setting("DESEC_TOKEN_FILE"), desec)
    assert (result.status, result.stdout) == (1, "")
    assert "DNS_PUBLISH=desec needs DESEC_TOKEN_FILE; set it" in result.stderr


def test_a_new_identity_creates_no_key_before_its_settings_are_known_to_be_right(device: Device) -> None:
    device.key_path.unlink()
    for wrong in (
        device.without_setting("DESEC_TOKEN_FILE"),
        device.with_settings(DESEC_TOKEN_FILE="/nonexistent/desec.token"),
    ):
        result = wrong.run(NEW_IDENTITY)
        assert result.status in (1, 10), result
        assert not device.key_path.exists()


@pytest.mark.parametrize("prepare", [invalid_token, another_name])
def test_a_new_identity_whose_record_may_not_be_published_leaves_no_key_behind(
    prepare: Prepare, device: Device, desec: DesecServer
) -> None:
    device.key_path.unlink()
    device.certificate_path.unlink()
    prepare(desec, device)
    result = device.run(NEW_IDENTITY)
    assert result.status == 10, result
    assert not device.key_path.exists()
    assert not device.certificate_path.exists()


def test_a_new_identity_says_what_it_waits_for(device: Device, desec: DesecServer, servers: ZoneServers) -> None:
    assert publish(device, desec).status == 0
    assert "TLSA\t3 0 0" in servers.resolved(device.name)
    device.key_path.unlink()
    device.certificate_path.unlink()
    with device.start(NEW_IDENTITY) as program:
        program.wait_for_log(
            "Waiting up to 120 s until the resolver finds the record: the resolver still has old records of"
            f" {device.name}."
        )
        assert len(servers.served(device.name).rdatas) == 2


def shell(commands: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-euc", commands], env=environment, capture_output=True, text=True, check=False)


def test_the_documents_commands_publish_with_the_narrowest_token(
    desec: DesecServer, servers: ZoneServers, tmp_path: Path
) -> None:
    name = f"alice._device.{DOMAIN}"
    home = tmp_path / "home"
    (home / "messenger").mkdir(parents=True)
    device = new_device(name, home / "messenger" / "identity", servers, desec)
    assert device.run(CREATE_SELFSIGNED_ID).status == 0
    (home / "messenger" / "desec.manager").write_text(f"{desec.add_token(perm_manage_tokens=True)}\n")
    programs = os.pathsep.join([str(Path(sys.executable).parent), str(Path(find("curl")).parent), os.defpath])
    environment = {**device.environment(), "HOME": str(home), "PATH": programs}
    del environment["DNS_PUBLISH"]
    made = shell(block(DNS, "a token for one record at deSEC").replace("https://desec.io", desec.origin), environment)
    assert (made.returncode, made.stderr) == (0, ""), made
    token = (home / "messenger" / "desec.token").read_text().strip()
    assert desec.tokens[token].policies == [
        Policy(),
        Policy(DOMAIN, "alice._device", "TLSA", perm_write=True),
        Policy(DOMAIN, "_epoch.alice._device", "TXT", perm_write=True),
    ]
    assert (home / "messenger" / "desec.token").stat().st_mode & 0o777 == 0o600
    left = sorted(path.name for path in (home / "messenger").iterdir())
    assert left == ["desec.token", "identity"]
    assert not [secret for secret in desec.tokens if secret in made.stdout]
    published = shell(block(DNS, "publishing at deSEC"), environment)
    assert published.returncode == 0, published
    assert published.stdout.startswith("added    3 0 0 ")
    assert servers.served(name) == PublishedSet.of(3600, [rdata(device.tlsa_record())])
    removed = shell(block(DNS, "removing the record at deSEC"), environment)
    assert removed.returncode == 0, removed
    assert servers.served(name) == PublishedSet.of(0, ())
