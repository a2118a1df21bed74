from collections.abc import Iterator
from pathlib import Path

import pytest

from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.damage import KINDS, Kind
from tests.idlib.storage.replaying import small

__all__ = ["kind", "small", "store"]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    kind = KINDS[request.param]
    kind.fill(tmp_path)
    return kind


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplayMemory]:
    with ReplayMemory(tmp_path) as store:
        yield store
