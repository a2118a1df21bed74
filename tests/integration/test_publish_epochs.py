"""Epoch records on their way from the spool into DNS, where senders find them: Knot, BIND, PowerDNS and deSEC."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.dnssec
import dns.message
import dns.query
import dns.rdatatype
import pytest

from idlib import keys
from idlib.discovery import Discovery
from idlib.epochs import EpochPrivateKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.epochs.spool import write_spool
from idlib.names import IdentityName
from idlib.publishing.name_servers import read_from
from idlib.publishing.record_types import epoch_place, text_of
from idlib.settings import ServerAddress, load
from testbed.daemons.knot import Knot, Zone
from testbed.daemons.process import LOOPBACK, run_tool
from testbed.daemons.unbound import Unbound
from testbed.desec.limits import MINIMUM_TTL
from testbed.desec.server import DesecServer
from testbed.lab import wait_until
from testbed.programs import MAINTENANCE, PUBLISH_TLSA, Device, Program, Result
from tests.integration.publishing import (
    KEEPER,
    MAKES,
    NARROW,
    NARROW_LABEL,
    PUBLISHER,
    Authority,
    create_identity,
    publish,
    running,
)
from tests.integration.test_publish import SECONDARY, TRANSFERRED, ZONE, several

DAY = 86_400
NUMBERS = itertools.count()
FOREIGN = b"v=spf1 -all"
WATCH = ["-m", "messaging_maintenance.watch_epochs", str(MAINTENANCE)]


@dataclass(frozen=True)
class Publishing:
    """A device whose receiver leaves epoch records in a spool, and the name server of its zone."""

    device: Device
    host: str
    port: int

    @property
    def name(self) -> IdentityName:
        return IdentityName(self.device.name)

    @property
    def spool(self) -> Path:
        return Path(self.device.settings["EPOCH_SPOOL"])

    def leave(self) -> bytes:
        """Leave a new record in the spool, as the receiver does, and return its text."""
        key = keys.read_private_key(self.device.key_path)
        now = int(time.time())
        half = EpochPrivateKey(os.urandom(32))
        record = SignedEpochRecord.create(EpochRecord(now - 3600, now + 9 * DAY, half.public), self.name, key)
        write_spool(self.spool, self.name, [record])
        return record.to_text()

    def texts(self) -> set[bytes]:
        """Return the TXT records that the name server has."""
        served = read_from(ServerAddress(self.host, self.port), epoch_place(self.name))
        return {text_of(rdata) for rdata in served.rdatas}

    def ttl(self) -> int:
        return read_from(ServerAddress(self.host, self.port), epoch_place(self.name)).ttl

    def attempt(self) -> Result:
        """Make one attempt to publish what is in the spool, as the maintenance service starts it."""
        done = subprocess.run(
            [sys.executable, *WATCH], env=self.device.environment(), capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def health(self) -> Result:
        return self.device.run(MAINTENANCE, "--health")

    def serve(self) -> Program:
        """Start the maintenance service, which checks the identity every few seconds."""
        return self.device.with_settings(ROTATE_TEST_SPEED="4000").start(MAINTENANCE)


def publishing_at(authority: Authority, label: str, key: str = KEEPER, *, numbered: bool = True) -> Publishing:
    device = authority.device(label, key=key, numbered=numbered)
    spool = device.crypto_path.with_name(f"{device.crypto_path.name}-spool")
    device = device.with_settings(EPOCH_SPOOL=str(spool), APP_UID=str(os.geteuid()))
    assert publish(device).status == 0
    return Publishing(device, LOOPBACK, authority.port)


def anchors_of(host: str, port: int, zone: str) -> list[str]:
    """Return the DS records of a zone's key-signing keys, as zone-file lines."""
    answer = dns.query.tcp(dns.message.make_query(zone, "DNSKEY"), host, port=port, timeout=5)
    (found,) = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.DNSKEY]
    return [f"{zone}. IN DS {dns.dnssec.make_ds(found.name, key, 'SHA256')}" for key in found if key.flags & 1]


def found_by_senders(publishing: Publishing, zone: str, directory: Path) -> set[bytes]:
    """Return the texts that a sender finds, whose resolver validates the zone."""
    directory.mkdir()
    anchors = anchors_of(publishing.host, publishing.port, zone)
    with Unbound(directory, {zone: publishing.port}, anchors) as resolver:
        settings = load({"IDENTITY_NAME": f"sender.{zone}", "DNS_RESOLVER": resolver.address})
        found = Discovery.from_settings(settings).find_epochs(publishing.name)
    return set(found.texts)


@pytest.fixture(scope="module", params=MAKES)
def authority(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


def test_what_the_receiver_leaves_is_found_by_senders(authority: Authority, tmp_path: Path) -> None:
    there = publishing_at(authority, "epochs")
    first = there.leave()
    done = there.attempt()
    assert (done.status, done.stdout) == (0, "")
    assert f"INFO Epoch records published: _epoch.{there.name}, with a TTL of 3600 s" in done.stderr
    assert (there.texts(), there.ttl()) == ({first}, 3600)
    assert found_by_senders(there, authority.zone, tmp_path / "resolver") == {first}
    second = there.leave()
    assert there.attempt().status == 0
    assert there.texts() == {second}
    again = there.attempt()
    assert (again.status, again.stderr) == (0, "")
    assert there.health().status == 0


def test_other_txt_records_stay(authority: Authority) -> None:
    there = publishing_at(authority, "shared")
    for content in ('"v=spf1 -all"', '"" "a;b" "\\"c\\\\"'):
        authority.update_with(KEEPER, f"update add _epoch.{there.name}. 77 TXT {content}")
    foreign = there.texts()
    assert len(foreign) == 2
    text = there.leave()
    assert there.attempt().status == 0
    assert there.texts() == {*foreign, text}
    text = there.leave()
    assert there.attempt().status == 0
    assert there.texts() == {*foreign, text}


def test_the_grant_of_the_documents_covers_the_epoch_records_of_that_device_alone(authority: Authority) -> None:
    alice = publishing_at(authority, NARROW_LABEL, NARROW, numbered=False)
    text = alice.leave()
    assert alice.attempt().status == 0
    assert alice.texts() == {text}
    bob = publishing_at(authority, "bob")
    stolen = Publishing(
        bob.device.with_settings(DNS_UPDATE_KEY_FILE=str(authority.key_files[NARROW])), bob.host, bob.port
    )
    stolen.leave()
    assert stolen.attempt().status != 0
    assert bob.texts() == set()


def test_a_key_that_may_change_only_the_tlsa_records_is_named(authority: Authority) -> None:
    there = publishing_at(authority, "tlsa-only", PUBLISHER)
    there.leave()
    done = there.attempt()
    assert done.status != 0
    place = f"TXT records at _epoch.{there.name}"
    words = {
        "knot": f"does not let the key publisher change {place}; allow it in the server's configuration",
        "bind": f"does not let the key publisher change {place}; allow it in the server's configuration",
        "pdns": f"has accepted the update, but not changed the records of _epoch.{there.name}; check that the key",
    }[authority.make]
    assert words in done.stderr
    assert there.texts() == set()
    health = there.health()
    assert health.status != 0
    assert health.stdout.startswith("publishing epoch records failed: ")
    assert words in health.stdout


def test_a_command_of_the_documents_publishes_epoch_records(authority: Authority, tmp_path: Path) -> None:
    there = publishing_at(authority, "commanded")
    commanded = Publishing(authority.commanding(there.device, KEEPER, tmp_path), there.host, there.port)
    authority.update_with(KEEPER, f'update add _epoch.{there.name}. 77 TXT "v=spf1 -all"')
    for _ in range(2):
        text = commanded.leave()
        assert commanded.attempt().status == 0
        assert commanded.texts() == {FOREIGN, text}


def number_published(service: Program) -> int:
    return sum("Epoch records published" in line for line in service.stderr)


def test_the_service_publishes_what_the_receiver_leaves(authority: Authority) -> None:
    there = publishing_at(authority, "served")
    with there.serve() as service:
        first = there.leave()
        wait_until(lambda: number_published(service) == 1, "first record", 60)
        assert there.texts() == {first}
        second = there.leave()
        wait_until(lambda: number_published(service) == 2, "second record", 60)
        assert there.texts() == {second}
        # Someone removes it: the next check of the identity puts it back.
        authority.update_with(KEEPER, f"update delete _epoch.{there.name}. TXT")
        wait_until(lambda: there.texts() == {second}, "vanished record", 60)
        assert service.is_running
    with there.serve() as service:
        # It has nothing to publish after a restart.
        time.sleep(5)
        assert number_published(service) == 0


def test_a_device_that_is_taken_out_of_dns_gets_no_epoch_records(authority: Authority) -> None:
    there = publishing_at(authority, "stolen")
    there.leave()
    assert publish(there.device, "--remove").status == 0
    done = there.attempt()
    assert done.status != 0
    assert "the epoch records are not published, because DNS has no record of" in done.stderr
    assert there.texts() == set()


# Several name servers of one zone, and deSEC.


def test_a_secondary_that_lags_is_named_and_the_attempt_is_repeated(tmp_path: Path) -> None:
    with several(tmp_path) as world, world.secondary(TRANSFERRED) as secondary:
        device = world.device.with_settings(EPOCH_SPOOL=str(tmp_path / "spool"), APP_UID=str(os.geteuid()))
        publish(device, "--timeout", "1")
        secondary.transfer(ZONE)
        there = Publishing(device, LOOPBACK, world.port)
        text = there.leave()
        with there.serve() as service:
            service.wait_for_log(f"Waiting for ns2.{ZONE} ({SECONDARY}:{world.port}).")
            assert there.texts() == {text}
            secondary.transfer(ZONE)
            wait_until(lambda: there.health().stdout.startswith("ok: "), "good health", 60)


def test_the_service_retries_until_the_name_server_is_up(tmp_path: Path) -> None:
    with several(tmp_path, "ns2 A 127.0.0.1\n") as world:
        device = world.device.with_settings(EPOCH_SPOOL=str(tmp_path / "spool"), APP_UID=str(os.geteuid()))
        assert publish(device).status == 0
        there = Publishing(device, LOOPBACK, world.port)
        world.primary.cut_off()
        text = there.leave()
        with there.serve() as service:
            service.wait_for_log("WARNING Publishing epoch records failed: ")
            health = there.health()
            assert health.status != 0
            assert "publishing epoch records failed: " in health.stdout
            world.primary.reconnect()
            service.wait_for_log("Publishing epoch records succeeded again")
        assert there.texts() == {text}
        assert "publishing epoch records" not in there.health().stdout


@pytest.fixture
def desec_world(tmp_path: Path) -> Iterator[tuple[Publishing, DesecServer, str]]:
    domain = "example.dedyn.io"
    for name in ("knot", "unbound", "identity"):
        (tmp_path / name).mkdir()
    with (
        Knot(tmp_path / "knot", [Zone(domain)]) as knot,
        Unbound(tmp_path / "unbound", {domain: knot.port}, [knot.ds(domain)]) as unbound,
        DesecServer({domain: MINIMUM_TTL}, knot.replace) as desec,
    ):
        name = f"alice._device.{domain}"
        (tmp_path / "desec.token").touch(mode=0o600)
        settings = {
            "IDENTITY_NAME": name,
            "CRYPTO_PATH": str(tmp_path / "identity"),
            "KEY_TYPE": "p256",
            "APP_UID": str(os.geteuid()),
            "DNS_RESOLVER": unbound.address,
            "DNS_SERVER_PORT": str(knot.port),
            "DNS_PUBLISH": "desec",
            "DESEC_URL": desec.url,
            "DESEC_TOKEN_FILE": str(tmp_path / "desec.token"),
            "EPOCH_SPOOL": str(tmp_path / "spool"),
        }
        device = Device(name, tmp_path / "identity", settings)
        create_identity(device)
        (tmp_path / "desec.token").write_text(desec.epoch_token_for(name))
        assert device.run(PUBLISH_TLSA).status == 0
        yield Publishing(device, knot.host, knot.port), desec, domain


def test_desec_replaces_the_records_in_one_write(
    desec_world: tuple[Publishing, DesecServer, str], tmp_path: Path
) -> None:
    there, desec, domain = desec_world
    desec.put(f"_epoch.{there.name}", ['"v=spf1 -all"'], kind="TXT")
    desec.requests.clear()
    first = there.leave()
    assert there.attempt().status == 0
    (write,) = desec.sent("PATCH")
    assert [(part["subname"], part["type"], part["ttl"]) for part in write.document] == [
        ("_epoch.alice._device", "TXT", 3600)
    ]
    assert there.texts() == {FOREIGN, first}
    second = there.leave()
    assert there.attempt().status == 0
    assert there.texts() == {FOREIGN, second}
    assert found_by_senders(there, domain, tmp_path / "resolver") == {FOREIGN, second}
    desec.requests.clear()
    assert there.attempt().status == 0
    assert desec.sent("PATCH") == []


def test_a_token_of_desec_that_may_change_only_the_tlsa_records_is_named(
    desec_world: tuple[Publishing, DesecServer, str],
) -> None:
    there, desec, domain = desec_world
    Path(there.device.settings["DESEC_TOKEN_FILE"]).write_text(desec.token_for(there.device.name))
    there.leave()
    done = there.attempt()
    assert done.status != 0
    assert f"deSEC does not let the token change TXT records at _epoch.{there.name}" in done.stderr
    assert f"domain {domain}, subname _epoch.alice._device and type TXT" in done.stderr
    assert there.texts() == set()


def test_epochs_that_are_too_short_for_desec_are_an_error(desec_world: tuple[Publishing, DesecServer, str]) -> None:
    there, _, _ = desec_world
    short = Publishing(there.device.with_settings(EPOCH_LENGTH="2h"), there.host, there.port)
    short.leave()
    done = short.attempt()
    assert "the lowest that their zone allows is 3600 s; set EPOCH_LENGTH to 14400s or more" in done.stderr
    assert short.texts() == set()


def kill_after(there: Publishing, seconds: float) -> None:
    with subprocess.Popen(
        [sys.executable, *WATCH], env=there.device.environment(), stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def test_an_attempt_that_is_killed_anywhere_leaves_the_old_or_the_new_record(
    desec_world: tuple[Publishing, DesecServer, str],
) -> None:
    there, _, _ = desec_world
    known = there.leave()
    assert there.attempt().status == 0
    for tenth in range(3, 12):
        new = there.leave()
        kill_after(there, tenth / 10)
        assert there.texts() in ({known}, {new})
        assert there.attempt().status == 0
        assert there.texts() == {new}
        known = new


def test_an_alias_of_the_epoch_records_is_followed(tmp_path: Path) -> None:
    text = "ns2 A 127.0.0.1\n_epoch.alice._device CNAME keys.elsewhere\n"
    with several(tmp_path, text) as world:
        device = world.device.with_settings(EPOCH_SPOOL=str(tmp_path / "spool"), APP_UID=str(os.geteuid()))
        assert publish(device).status == 0
        there = Publishing(device, LOOPBACK, world.port)
        there.leave()
        done = there.attempt()
        assert done.status == 0
        assert f"Epoch records published: keys.elsewhere.{ZONE}, " in done.stderr
        shown = run_tool("dig", f"@{LOOPBACK}", "-p", str(world.port), "+tcp", f"_epoch.{device.name}", "TXT", "+short")
        assert '"epoch1:' in shown
