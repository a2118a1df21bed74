import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idlib.store import Store

if TYPE_CHECKING:
    from tests.applications.messaging_receiver.world import World

# The receiver's modules import each other as a program started by its path does.
sys.path.insert(0, str(Path(__file__).parents[3] / "applications" / "messaging_receiver" / "src"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["World"]:
    # Not before the path is set.
    from tests.applications.messaging_receiver.world import run_world

    monkeypatch.setattr("waiting_room._FIRST_RETRY_SECONDS", 0.2)
    with Store(tmp_path) as store:
        yield from run_world(store)
