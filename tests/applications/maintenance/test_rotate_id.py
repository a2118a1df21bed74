"""What rotate_id.py prints; the steps themselves are tested in rotation/test_steps.py."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from idlib.errors import ExitStatus, PublishingError
from idlib.publishing.change import PublishedSet
from idlib.publishing.zone import HostResolver, NameServer
from idlib.settings import ServerAddress, load
from messaging_maintenance import rotate_id
from messaging_maintenance.rotation.state import Way
from tests.applications.maintenance.rotation.world import World


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a device with an identity and a published record."""
    world = World(tmp_path, monkeypatch)
    world.create()
    # Its logging would outlive the test.
    monkeypatch.setattr(rotate_id, "read_environment", lambda names: load(os.environ, names))
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("messaging_maintenance.publishing.open_publishing", lambda _: (world.publishing, world.zone))
    return world


@pytest.mark.parametrize(
    ("lowest", "cost"),
    [
        (0, "within about a minute after it.\n"),
        (60, "within about a minute after it.\n"),
        (61, "within about 2 minutes after it. The program cannot lower the TTL of the record below 61 s.\n"),
        (3600, "within about 60 minutes after it. The program cannot lower the TTL of the record below 3600 s.\n"),
    ],
)
def test_the_cost_of_a_single_record_is_the_ttl_that_it_can_have(
    device: World, lowest: int, cost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device.lowest = lowest
    device.put(PublishedSet(max(300, lowest), device.records.rdatas))
    monkeypatch.setattr(sys, "argv", ["rotate_id.py", "start", "--single"])
    rotate_id.main()
    assert cost in capsys.readouterr().err
    assert device.records.ttl == max(60, lowest)


# Nothing answers there.
NOWHERE = {"DNS_RESOLVER": "127.0.0.1:1"}


def test_without_a_network_the_status_is_that_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    directory = tmp_path / "identity"
    directory.mkdir()
    with monkeypatch.context() as patched:
        world = World(directory, patched)
        world.wall, world.up = time.time(), 0.0
        world.create()
        world.rotation.start(Way.OVERLAP)
    # No credential is needed, either.
    ended = run("rotate_id.py", "status", DNS_PUBLISH="rfc2136", DNS_UPDATE_KEY_FILE="/missing", **NOWHERE)
    assert ended.returncode == ExitStatus.PUBLISHING
    assert ended.stdout.startswith("Stage: published (overlap).\nNext: switch, to sign with the new key; safe from 20")
    told, error = ended.stderr.splitlines()
    assert told == "DNS could not be asked, so what the name servers have is not known."
    assert error.startswith("Error: cannot find the zone of example.test: ")


def test_name_servers_that_do_not_answer_are_named_and_fail_the_status(
    device: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = NameServer("ns.example.test", ServerAddress("127.0.0.1", 1))
    zone = replace(device.zone, servers=(server,))
    monkeypatch.setattr(HostResolver, "find_zone", lambda *_: zone)
    monkeypatch.setattr(sys, "argv", ["rotate_id.py", "status"])
    with pytest.raises(PublishingError, match="no name server answers"):
        rotate_id.main()
    stage, unreachable = capsys.readouterr().out.splitlines()
    assert stage == "No rotation is under way."
    assert unreachable.startswith("ns.example.test (127.0.0.1")


@pytest.mark.parametrize(("lowest", "is_told"), [(60, False), (300, True)])
def test_who_changes_records_by_hand_is_told_to_lower_the_ttl(
    lowest: int,
    is_told: bool,  # noqa: FBT001
    device: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    device.lowest = lowest
    device.put(PublishedSet(lowest, device.records.rdatas))
    monkeypatch.setattr(sys, "argv", ["rotate_id.py", "start", "--single"])
    rotate_id.main()
    shown = capsys.readouterr()
    assert ("Enter the old record with this TTL now" in shown.err) is is_told
    assert (f" 60 IN TLSA {device.state.old_record}\n" in shown.out) is is_told
    assert device.state.ttl >= lowest
