import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.applications.messaging_receiver.world import World

# The receiver's modules import each other as a program started by its path does.
sys.path.insert(0, str(Path(__file__).parents[3] / "applications" / "messaging_receiver" / "src"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["World"]:
    # Not before the path is set.
    from tests.applications.messaging_receiver.world import open_world

    monkeypatch.setattr("deferral.FIRST_RETRY_SECONDS", 0.2)
    with open_world(tmp_path) as world:
        yield world
