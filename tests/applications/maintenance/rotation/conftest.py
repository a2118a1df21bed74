from pathlib import Path

import pytest

from tests.applications.maintenance.rotation.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def device(world: World) -> World:
    """Return a device with an identity and a published record."""
    world.create()
    return world
