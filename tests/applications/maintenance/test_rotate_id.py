"""What rotate_id.py prints; the steps themselves are tested in rotation/test_steps.py."""

import os
import sys
from pathlib import Path

import pytest

from idlib.publishing.change import TlsaSet
from idlib.settings import load
from messaging_maintenance import rotate_id
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
    device.put(TlsaSet(max(300, lowest), device.records.rdatas))
    monkeypatch.setattr(sys, "argv", ["rotate_id.py", "start", "--single"])
    rotate_id.main()
    assert cost in capsys.readouterr().err
    assert device.records.ttl == max(60, lowest)
