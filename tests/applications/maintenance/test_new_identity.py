"""What new_identity.py creates, publishes and prints."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.discovery import Discovery, Found, PublishedKey
from idlib.errors import CredentialError, DiscoveryError, ExitStatus, KeyFileError, NoRecordError, NotSecureError
from idlib.records import key_of
from idlib.settings import load
from messaging_maintenance import check_identity, new_identity
from messaging_maintenance.checks.result import fail, ok
from tests.applications.maintenance.rotation.world import NAME, World

Capture = pytest.CaptureFixture[str]


class Resolver:
    """Finds what DNS has, or raises an error."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fault: DiscoveryError | None = None
        self.asked = 0

    def find(self, _: object) -> Found:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        found = (key_of(rdata) for rdata in self.world.records.rdatas)
        return Found(NAME, tuple(PublishedKey("3 0 0", key) for key in found if key), (), "made in a test")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path, monkeypatch)
    for name, value in {**world.environment, "DNS_PUBLISH": "command", "DNS_PUBLISH_COMMAND": "true"}.items():
        monkeypatch.setenv(name, value)
    # Its logging would outlive the test.
    monkeypatch.setattr(new_identity, "read_environment", lambda names: load(os.environ, names))
    monkeypatch.setattr(sys, "argv", ["new_identity.py"])
    monkeypatch.setattr("messaging_maintenance.publishing.open_publishing", lambda _: (world.publishing, world.zone))
    return world


@pytest.fixture
def resolver(world: World, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver(world)
    monkeypatch.setattr(Discovery, "from_settings", lambda _: resolver)
    monkeypatch.setattr(new_identity, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(new_identity, "_WAIT_SECONDS", 0.05)
    # The checks need a network; the integration tests run them.
    monkeypatch.setattr(check_identity, "check_this_device", list)
    return resolver


def files(world: World) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in world.directory.iterdir()}


def test_a_second_run_changes_nothing(world: World, resolver: Resolver, capsys: Capture) -> None:
    new_identity.main()
    first = capsys.readouterr()
    assert f"{NAME} has a new key and certificate." in first.err
    assert f"{NAME} is ready: other devices find its key in DNS." in first.out
    assert world.published() == {world.current}
    written, changes = files(world), list(world.changes)
    new_identity.main()
    second = capsys.readouterr()
    assert f"{NAME} already has a key, which is kept." in second.err
    assert "Nothing to change" in second.out
    assert (files(world), world.changes) == (written, changes)
    assert resolver.asked == 2


def test_a_name_that_may_not_be_published_leaves_no_file_behind(world: World, resolver: Resolver) -> None:
    world.fault = CredentialError("the server does not allow this change", "check IDENTITY_NAME")
    with pytest.raises(CredentialError, match="check IDENTITY_NAME"):
        new_identity.main()
    assert files(world) == {}
    assert (world.changes, resolver.asked) == ([], 0)


def test_a_key_that_waits_for_the_certificate_of_a_ca_gets_no_other(world: World, resolver: Resolver) -> None:
    world.identity.generate_private_key()
    world.identity.generate_csr()
    before = files(world).keys()
    with pytest.raises(KeyFileError, match="install_certificate"):
        new_identity.main()
    assert {name for name in files(world) if name.endswith(".pem")} == before
    assert resolver.asked == 0


def test_a_check_that_fails_is_printed_and_gives_its_status(
    world: World, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    found = [ok("key.file", "readable"), fail("broker.reachable", "no connection", "check MQTT_HOST")]
    monkeypatch.setattr(check_identity, "check_this_device", lambda: found)
    assert new_identity.main() == ExitStatus.CHECK_FAILED
    printed = capsys.readouterr().out
    assert "fail  broker.reachable  no connection" in printed
    assert "key.file" not in printed
    assert "is ready" not in printed
    assert resolver.asked == 1


def test_without_a_method_it_prints_what_to_enter(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("DNS_PUBLISH")
    new_identity.main()
    printed = capsys.readouterr()
    assert str(world.identity.tlsa_record(0)) in printed.out
    assert NAME.text in printed.out
    assert "check_identity.py" in printed.err
    assert world.changes == []


def test_a_resolver_that_remembers_the_absence_is_waited_for_and_named(world: World, resolver: Resolver) -> None:
    resolver.fault = NoRecordError("there is no record", "publish it", kept_seconds=900)
    with pytest.raises(NoRecordError, match="the record is published; the resolver may have remembered") as raised:
        new_identity.main()
    assert "for up to 900 s; later, run ./check_identity.py" in str(raised.value)
    assert resolver.asked > 1
    assert world.published() == {world.current}


def test_a_zone_that_is_not_signed_ends_the_wait_at_once(world: World, resolver: Resolver) -> None:
    resolver.fault = NotSecureError("the answer is not protected by DNSSEC", "sign the zone")
    with pytest.raises(NotSecureError, match="; sign the zone"):
        new_identity.main()
    assert resolver.asked == 1
    assert world.published() == {world.current}


def test_old_records_in_a_cache_are_waited_for(
    world: World, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[object], Found] = resolver.find
    fresh: list[Found] = []

    def find_old_first(name: object) -> Found:
        found = find(name)
        if not fresh:
            fresh.append(found)
            return Found(NAME, (PublishedKey("3 0 0", b"another key"),), (), "made in a test")
        return found

    monkeypatch.setattr(resolver, "find", find_old_first)
    new_identity.main()
    assert resolver.asked == 2
    assert world.published() == {world.current}
