"""publish_tlsa.py against real name servers: Knot, BIND and PowerDNS, with keys that their own tools wrote."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from idlib.discovery.resolver import named_server
from idlib.errors import ConcurrentChangeError
from idlib.names import IdentityName
from idlib.publishing.change import Change, PublishedSet
from idlib.publishing.dynamic_update import DynamicUpdate
from idlib.publishing.publication import Publishing
from idlib.publishing.record_types import tlsa_place
from idlib.publishing.tsig_key import read_tsig_key
from idlib.publishing.zone import HostResolver
from idlib.records import TlsaRecord
from idlib.settings import ServerAddress
from testbed.daemons.knot import Knot, Zone
from testbed.daemons.namespace import Namespace
from testbed.daemons.process import free_port, run_tool
from testbed.daemons.unbound import Unbound
from testbed.programs import GENERATE_TLSA, PUBLISH_TLSA, ROOT, Device, Result
from tests import documents
from tests.integration.publishing import (
    MAKES,
    NARROW,
    NARROW_LABEL,
    POWERLESS,
    PUBLISHER,
    Authority,
    create_identity,
    publish,
    running,
    secret_in,
)

NEW_IDENTITY = ROOT / "applications/maintenance/src/new_identity.py"
DIGEST = f"3 1 1 {'ab' * 32}"
# Of a digest's length dnspython is sure; name servers are not.
MALFORMED = "3 1 1 07"
STALE = "3 1 1 " + "cd" * 32


@pytest.fixture(scope="module", params=MAKES)
def authority(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


def rdata(record: str) -> bytes:
    usage, selector, matching_type, digits = record.split()
    return bytes((int(usage), int(selector), int(matching_type))) + bytes.fromhex(digits)


def in_resolver(authority: Authority, name: str) -> str:
    host, _, port = authority.resolver.partition(":")
    return "".join(run_tool("dig", f"@{host}", "-p", port, name, "TLSA", "+short").split()).lower()


def test_the_record_appears_and_a_second_run_changes_nothing(authority: Authority) -> None:
    device = authority.device("new")
    first = publish(device)
    assert (first.status, first.stderr) == (0, "")
    added, agreed, caches = first.stdout.splitlines()
    assert re.fullmatch(r"added    3 0 0 3082[0-9a-f]{12}…, key [0-9a-f]{16}", added)
    assert agreed == f"Every name server of {authority.zone} agrees: ns.{authority.zone} (127.0.0.1:{authority.port})."
    assert re.fullmatch(
        r"Resolvers that were asked before may report for up to (3600|5) s that there is no record\.", caches
    )
    assert authority.records(device.name) == [device.tlsa_record()]
    # It remembers for an hour what is missing, so nothing may have asked it for the name before.
    assert device.tlsa_record().replace(" ", "") in in_resolver(authority, device.name)
    again = publish(device)
    assert (again.status, again.stderr) == (0, "")
    assert again.stdout.splitlines() == [
        f"Nothing to change: {device.name} has its record, with a TTL of 60 s.",
        agreed,
    ]


def test_another_ttl_and_another_form_of_the_record_replace_what_was_there(authority: Authority) -> None:
    device = authority.device("changed")
    publish(device)
    longer = publish(device.with_settings(TLSA_TTL="600"))
    assert (longer.status, longer.stdout.splitlines()[0]) == (0, "changed  the TTL from 60 s to 600 s")
    assert "Caches may hold the old records for another 60 s." in longer.stdout
    smaller = publish(device.with_settings(TLSA_TTL="600", TLSA_SELECTOR="1"))
    assert [line[:15] for line in smaller.stdout.splitlines()[:2]] == ["added    3 1 0 ", "removed  3 0 0 "]
    (record,) = authority.records(device.name)
    assert record.startswith("3 1 0 ")
    assert record.removeprefix("3 1 0 ") in device.tlsa_record()


def test_foreign_records_stay_and_are_listed_until_they_are_to_be_removed(authority: Authority) -> None:
    device, other = authority.device("shared"), authority.device("other")
    foreign = sorted([DIGEST, MALFORMED, other.tlsa_record()])
    for record in foreign:
        authority.add(device.name, record)
    kept = publish(device)
    assert kept.status == 0
    assert kept.stdout.count("kept     3 ") == 3
    assert f"kept     3 1 1 07  (unknown key; {PUBLISH_TLSA} --remove-foreign removes it)" in kept.stdout
    assert authority.records(device.name) == sorted([*foreign, device.tlsa_record()])
    assert "Nothing to change" in publish(device).stdout
    removed = publish(device, "--remove-foreign")
    assert (removed.status, removed.stdout.count("removed  3 ")) == (0, 3)
    assert authority.records(device.name) == [device.tlsa_record()]


def test_a_device_is_taken_out_of_dns_from_a_machine_that_has_only_the_credential(
    authority: Authority, tmp_path: Path
) -> None:
    device = authority.device("stolen")
    authority.add(device.name, DIGEST)
    publish(device)
    elsewhere = device.with_settings(CRYPTO_PATH=str(tmp_path / "empty"))
    removed = publish(elsewhere, "--remove")
    assert removed.status == 0
    assert removed.stderr == "If the device was stolen, first revoke the credential for DNS that it holds.\n"
    assert removed.stdout.splitlines()[0] == f"Removed 2 records of {device.name}."
    assert authority.records(device.name) == []
    assert f"Nothing to change: {device.name} has no TLSA record." in publish(elsewhere, "--remove").stdout
    assert not (tmp_path / "empty").exists()


# What each server lets a client know.
UNKNOWN = "has no TSIG key {key} of this algorithm, or it may change nothing in"
REFUSED = "refuses the update with the TSIG key {key}; check there the key's name, algorithm and secret"
FORBIDDEN = "does not let the key {key} change TLSA records at {name}; allow it in the server's configuration"
IGNORED = "has accepted the update, but not changed the records of {name}; check that the key {key} may change them"
WRONG_SECRET = "rejects the signature by the TSIG key {key}; check that both sides have the same secret"


@pytest.mark.parametrize(
    ("key", "algorithm", "secret_of", "words"),
    [
        (PUBLISHER, "hmac-sha256", POWERLESS, {"knot": WRONG_SECRET, "bind": WRONG_SECRET, "pdns": REFUSED}),
        (PUBLISHER, "hmac-sha512", PUBLISHER, {"knot": UNKNOWN, "bind": UNKNOWN, "pdns": REFUSED}),
        ("nobody", "hmac-sha256", PUBLISHER, {"knot": UNKNOWN, "bind": UNKNOWN, "pdns": REFUSED}),
        (POWERLESS, "hmac-sha256", POWERLESS, {"knot": UNKNOWN, "bind": FORBIDDEN, "pdns": IGNORED}),
        (NARROW, "hmac-sha256", NARROW, {"knot": FORBIDDEN, "bind": FORBIDDEN, "pdns": IGNORED}),
    ],
    ids=["wrong secret", "wrong algorithm", "unknown key", "no permission", "no permission for this name"],
)
def test_a_key_that_is_rejected_gets_its_own_hint(
    authority: Authority, tmp_path: Path, key: str, algorithm: str, secret_of: str, words: dict[str, str]
) -> None:
    device = authority.device("unwelcome")
    path = tmp_path / "update.key"
    secret = secret_in(authority.key_files[secret_of])
    path.write_text(f'key "{key}" {{ algorithm {algorithm}; secret "{secret}"; }};\n')
    path.chmod(0o600)
    result = publish(device.with_settings(DNS_UPDATE_KEY_FILE=str(path)))
    assert (result.status, result.stdout) == (10, "")
    assert words[authority.make].format(key=key, name=device.name) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert authority.records(device.name) == []


def test_a_name_that_the_key_may_not_change_leaves_no_files_behind(authority: Authority) -> None:
    device = authority.device("mistyped").with_settings(DNS_UPDATE_KEY_FILE=str(authority.key_files[NARROW]))
    device.key_path.unlink()
    device.certificate_path.unlink()
    result = device.run(NEW_IDENTITY)
    # PowerDNS accepts what it then ignores, so only a change shows it.
    is_noticed_before = authority.make != "pdns"
    words = FORBIDDEN if is_noticed_before else IGNORED
    assert result.status == 10
    assert words.format(key=NARROW, name=device.name) in result.stderr
    assert (not device.key_path.exists() and not device.certificate_path.exists()) is is_noticed_before
    assert authority.records(device.name) == []


def test_a_key_of_one_device_changes_only_that_device(authority: Authority) -> None:
    alice = authority.device(NARROW_LABEL, key=NARROW, numbered=False)
    assert publish(alice).status == 0
    assert authority.records(alice.name) == [alice.tlsa_record()]
    assert publish(alice, "--remove").status == 0
    bob = authority.device("bob")
    assert publish(bob).status == 0
    stolen_key = bob.with_settings(DNS_UPDATE_KEY_FILE=str(authority.key_files[NARROW]))
    assert publish(stolen_key, "--remove").status == 10
    assert authority.records(bob.name) == [bob.tlsa_record()]


def test_an_open_key_file_is_refused_before_anything_is_sent(authority: Authority, tmp_path: Path) -> None:
    device = authority.device("careless")
    path = tmp_path / "update.key"
    path.write_bytes(authority.key_files[PUBLISHER].read_bytes())
    path.chmod(0o644)
    result = publish(device.with_settings(DNS_UPDATE_KEY_FILE=str(path)))
    assert result.status == 10
    assert f"(mode 0644); run chmod 600 {path}" in result.stderr
    assert authority.records(device.name) == []


def test_two_runs_at_once_lose_no_record(authority: Authority) -> None:
    one, two = authority.device("twin"), authority.device("twin")
    # Two machines with keys of their own for one name, as after a move.
    same = Device(one.name, two.crypto_path, {**two.settings, "IDENTITY_NAME": one.name})
    create_identity(same)
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda device=device: results.append(publish(device, "--timeout", "1")))
        for device in (one, same)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert authority.records(one.name) == sorted([one.tlsa_record(), same.tlsa_record()])
    # The faster of them may see the other's record, and says so.
    assert {result.status for result in results} <= {0, 10}
    assert all("serves other records" in result.stderr for result in results if result.status)


class Overtaken(DynamicUpdate):
    """Reads what is soon no longer true, so many times."""

    authority: Authority
    times: int

    def read(self) -> PublishedSet:
        records = super().read()
        if self.times:
            self.times -= 1
            self.authority.add(self._place.owner.text, f"3 1 1 {self.times:02x}{'ef' * 31}")
        return records


def updating(authority: Authority, device: Device, kind: type[DynamicUpdate] = DynamicUpdate) -> DynamicUpdate:
    host, _, port = authority.resolver.partition(":")
    name = IdentityName(device.name)
    resolver = HostResolver(named_server(ServerAddress(host, int(port)))(), authority.port)
    zone = resolver.find_zone(name)
    return kind(
        tlsa_place(name), zone, resolver.update_servers(zone, None), read_tsig_key(authority.key_files[PUBLISHER])
    )


def test_a_change_that_someone_else_overtakes_is_retried(authority: Authority) -> None:
    device = authority.device("overtaken")
    publisher = updating(authority, device, Overtaken)
    assert isinstance(publisher, Overtaken)
    publisher.authority, publisher.times = authority, 1
    name = IdentityName(device.name)
    zone = publisher._zone
    record = TlsaRecord.from_rdata(rdata(device.tlsa_record()))
    publication = Publishing(publisher, zone, name, 60, 10).publish([record])
    assert len(publication.foreign) == 1
    assert authority.records(device.name) == sorted([device.tlsa_record(), f"3 1 1 00{'ef' * 31}"])


def test_a_change_from_records_that_are_no_longer_there_changes_nothing(authority: Authority) -> None:
    device = authority.device("late")
    publish(device)
    publisher, name = updating(authority, device), IdentityName(device.name)
    now = publisher.read()
    for before in (
        PublishedSet.of(0, ()),
        PublishedSet.of(60, [rdata(STALE)]),
        PublishedSet.of(60, [*now.rdatas, rdata(STALE)]),
    ):
        with pytest.raises(ConcurrentChangeError):
            publisher.apply(Change(name, before, PublishedSet.of(300, [rdata(DIGEST)])))
    assert publisher.read() == now
    publisher.check()
    assert publisher.read() == now


def test_nsupdate_takes_what_generate_tlsa_prints_for_it(authority: Authority) -> None:
    device = authority.device("printed")
    authority.add(device.name, STALE)
    printed = device.run(GENERATE_TLSA, "--format", "nsupdate", "--ttl", "77")
    authority.update(*printed.stdout.splitlines()[:-1])
    assert authority.records(device.name) == [device.tlsa_record()]
    assert f"{device.name} has its record, with a TTL of 77 s" in publish(device.with_settings(TLSA_TTL="77")).stdout
    generic = device.run(GENERATE_TLSA, "--format", "generic").stdout.replace(" IN ", " ", 1)
    authority.update(f"update delete {device.name}. TLSA", f"update add {generic}")
    assert authority.records(device.name) == [device.tlsa_record()]


def test_a_command_of_the_documents_publishes_and_removes(authority: Authority, tmp_path: Path) -> None:
    device = authority.device("commanded")
    commanded = authority.commanding(device, PUBLISHER, tmp_path)
    authority.add(device.name, STALE)
    assert publish(commanded, "--remove-foreign").status == 0
    assert authority.records(device.name) == [device.tlsa_record()]
    assert "Nothing to change" in publish(commanded).stdout
    removed = publish(commanded, "--remove")
    assert (removed.status, authority.records(device.name)) == (0, [])
    failing = publish(commanded.with_settings(DNS_PUBLISH_COMMAND="exit 4"))
    assert (failing.status, failing.stdout) == (10, "")
    assert "DNS_PUBLISH_COMMAND ended with status 4" in failing.stderr


def test_the_documented_command_removes_the_record_with_the_settings_of_a_file(
    authority: Authority, tmp_path: Path
) -> None:
    device = authority.device("leaving")
    assert publish(device).status == 0
    (tmp_path / "messenger").mkdir()
    lines = "\n".join(f"{name}='{value}'" for name, value in device.settings.items())
    (tmp_path / "messenger" / "alice.env").write_text(lines)
    (tmp_path / "messenger" / "alice.env").chmod(0o600)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["sh", "-ec", documents.block("docs/install.md", "removing the record")]
    subprocess.run(command, env={"PATH": path, "HOME": str(tmp_path)}, check=True, capture_output=True, timeout=60)
    assert authority.records(device.name) == []


def test_a_server_that_is_down_is_named(authority: Authority) -> None:
    device = authority.device("alone")
    nowhere = f"127.0.0.1:{free_port()}"
    result = publish(device.with_settings(DNS_UPDATE_SERVER=nowhere))
    assert (result.status, result.stdout) == (10, "")
    assert f"{nowhere}: it cannot be reached: Connection refused; set DNS_UPDATE_SERVER" in result.stderr
    unknown = publish(device.with_settings(DNS_UPDATE_SERVER=f"gone.{authority.zone}"))
    assert f"the update server gone.{authority.zone} has no address in DNS" in unknown.stderr
    everything = publish(device.with_settings(DNS_SERVER_PORT=str(free_port())))
    assert everything.status == 10
    assert "Connection refused" in everything.stderr


# Zones with more than one name server, all of them Knot.

SECONDARY = "127.0.0.2"
ZONE = "many.test"
ZONE_TEXT = """\
$ORIGIN many.test.
$TTL 5
@ 3600 SOA ns hostmaster 10 3600 600 86400 3600
@ NS ns
@ NS ns2
ns A 127.0.0.1
"""
REMOTE = "remote:\n  - id: primary\n    address: 127.0.0.1@{port}\n"
TRANSFER = "acl:\n  - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n"
UPDATE = "  - id: update\n    key: publisher\n    action: update\n"


class Several:
    """A primary whose zone names a second name server, a resolver, and a device."""

    def __init__(self, directory: Path, stack: ExitStack, second: str) -> None:
        for name in ("primary", "secondary", "resolver", "identity"):
            (directory / name).mkdir()
        self.directory = directory
        self.port = free_port()
        key = "hmac-sha256:publisher:bm90IHNlY3JldCBhdCBhbGwsIGJ1dCBsb25nIGVub3VnaA=="
        (directory / "update.key").write_text(key)
        (directory / "update.key").chmod(0o600)
        algorithm, name, secret = key.split(":")
        keys = f"key:\n  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}\n"
        zone = Zone(ZONE, signed=False, text=ZONE_TEXT + second, acls=("transfer", "update"))
        self.primary = Knot(directory / "primary", [zone], self.port, extra=keys + TRANSFER + UPDATE)
        stack.enter_context(self.primary)
        resolver = stack.enter_context(Unbound(directory / "resolver", {ZONE: self.port}, ()))
        settings = {
            "IDENTITY_NAME": f"alice._device.{ZONE}",
            "CRYPTO_PATH": str(directory / "identity"),
            "KEY_TYPE": "p256",
            "DNS_RESOLVER": resolver.address,
            "DNS_SERVER_PORT": str(self.port),
            "DNS_PUBLISH": "rfc2136",
            "DNS_UPDATE_KEY_FILE": str(directory / "update.key"),
        }
        self.device = Device(settings["IDENTITY_NAME"], directory / "identity", settings)
        create_identity(self.device)

    def secondary(self, zone: Zone, address: str = SECONDARY) -> Knot:
        return Knot(
            self.directory / "secondary", [zone], self.port, address=address, extra=REMOTE.format(port=self.port)
        )


@contextmanager
def several(directory: Path, second: str = f"ns2 A {SECONDARY}\n") -> Iterator[Several]:
    with ExitStack() as stack:
        yield Several(directory, stack, second)


TRANSFERRED = Zone(ZONE, signed=False, master="primary")


def test_a_secondary_that_lags_is_named_until_it_has_the_record(tmp_path: Path) -> None:
    with several(tmp_path) as world, world.secondary(TRANSFERRED) as secondary:
        late = publish(world.device, "--timeout", "1")
        assert late.status == 10
        assert late.stderr.splitlines()[0] == f"Waiting for ns2.{ZONE} ({SECONDARY}:{world.port})."
        assert (
            f"after 1 s: ns2.{ZONE} ({SECONDARY}:{world.port}): it serves other records (serial 10; the newest is 11);"
            " its zone transfers are late or fail" in late.stderr
        )
        with world.device.start(PUBLISH_TLSA) as program:
            program.wait_for_log(f"Waiting for ns2.{ZONE}")
            secondary.transfer(ZONE)
            assert program.wait_for_end() == 0
        first, second = f"ns.{ZONE} (127.0.0.1:{world.port})", f"ns2.{ZONE} ({SECONDARY}:{world.port})"
        assert program.stdout == [
            f"Nothing to change: {world.device.name} has its record, with a TTL of 300 s.",
            f"Every name server of {ZONE} agrees: {first}, {second}.",
        ]


def test_a_secondary_that_is_down_is_named(tmp_path: Path) -> None:
    with several(tmp_path) as world:
        result = publish(world.device, "--timeout", "1")
    assert result.status == 10
    assert f"ns2.{ZONE} ({SECONDARY}:{world.port}): it cannot be reached: Connection refused" in result.stderr
    assert "make these servers reachable, or remove them from the zone's NS records" in result.stderr


def test_a_serial_number_that_does_not_move_is_not_taken_for_a_late_transfer(tmp_path: Path) -> None:
    text = ZONE_TEXT.replace("hostmaster 10", "hostmaster 11")
    with several(tmp_path) as world, world.secondary(Zone(ZONE, signed=False, text=text)):
        result = publish(world.device, "--timeout", "1")
    assert result.status == 10
    assert f"ns2.{ZONE} ({SECONDARY}:{world.port}): it serves other records; the zone's serial number" in result.stderr


def test_a_name_server_without_an_address_is_named(tmp_path: Path) -> None:
    with several(tmp_path, "") as world:
        result = publish(world.device)
    assert (result.status, result.stderr) == (0, f"The name server ns2.{ZONE} has no address and was not asked.\n")


def test_an_update_that_the_server_ignores_is_not_taken_for_a_late_transfer(tmp_path: Path) -> None:
    with several(tmp_path, "ns2 A 127.0.0.1\nalice._device CNAME ns\n") as world:
        result = publish(world.device)
    assert result.status == 10
    assert f"accepted the update, but not changed the records of {world.device.name}; check that the" in result.stderr
    assert "that the name is not an alias (CNAME)" in result.stderr


def test_a_name_server_is_asked_over_ipv6(tmp_path: Path) -> None:
    with several(tmp_path, "ns2 AAAA ::1\n") as world, world.secondary(TRANSFERRED, "::1") as secondary:
        late = publish(world.device, "--timeout", "1")
        assert f"ns2.{ZONE} ([::1]:{world.port}): it serves other records" in late.stderr
        secondary.transfer(ZONE)
        assert publish(world.device).status == 0


def test_an_address_to_which_the_device_has_no_route_is_left_out(tmp_path: Path) -> None:
    for name in ("namespace", "knot", "unbound", "identity"):
        (tmp_path / name).mkdir()
    text = ZONE_TEXT + "ns2 A 127.0.0.1\nns2 AAAA 2001:db8::53\n"
    key = "hmac-sha256:publisher:bm90IHNlY3JldCBhdCBhbGwsIGJ1dCBsb25nIGVub3VnaA=="
    (tmp_path / "update.key").write_text(key)
    (tmp_path / "update.key").chmod(0o600)
    keys = f"key:\n  - id: publisher\n    algorithm: hmac-sha256\n    secret: {key.rpartition(':')[2]}\n"
    zone = Zone(ZONE, signed=False, text=text, acls=("update",))
    with (
        Namespace(tmp_path / "namespace") as namespace,
        Knot(tmp_path / "knot", [zone], 5300, namespace=namespace, extra=f"{keys}acl:\n{UPDATE}"),
        Unbound(tmp_path / "unbound", {ZONE: 5300}, (), 53, namespace=namespace),
    ):
        settings = {
            "IDENTITY_NAME": f"alice._device.{ZONE}",
            "CRYPTO_PATH": str(tmp_path / "identity"),
            "KEY_TYPE": "p256",
            "DNS_SERVER_PORT": "5300",
            "DNS_PUBLISH": "rfc2136",
            "DNS_UPDATE_KEY_FILE": str(tmp_path / "update.key"),
        }
        device = Device(settings["IDENTITY_NAME"], tmp_path / "identity", settings, namespace.entrance)
        create_identity(device)
        result = publish(device, "--timeout", "5")
    assert result.status == 0, result
    assert result.stderr == (
        f"Not asked, because this device has no route to them: ns2.{ZONE} ([2001:db8::53]:5300).\n"
    )
