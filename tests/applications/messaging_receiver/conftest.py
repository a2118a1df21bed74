from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.applications.messaging_receiver.world import World, open_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("messaging_receiver.deferral.FIRST_RETRY_SECONDS", 0.2)
    with open_world(tmp_path) as world:
        yield world
