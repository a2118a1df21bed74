from collections.abc import Iterator
from pathlib import Path

import pytest

from idlib.storage import rules
from idlib.storage.replay import ReplayMemory
from tests.idlib.storage.damage import KINDS, Kind


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    kind = KINDS[request.param]
    kind.fill(tmp_path)
    return kind


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReplayMemory]:
    with ReplayMemory(tmp_path) as store:
        yield store


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide every limit by about 100,000."""
    for name, value in {
        "MAX_REMEMBERED_OF_A_NAME": 15,
        "MAX_REMEMBERED_OF_UNPROVEN": 20,
        "MAX_REMEMBERED": 40,
        "MAX_REMEMBERED_UNBOUND": 10,
        "MAX_UNPROVEN_NAMES": 10,
        "MAX_PROVEN_NAMES": 6,
    }.items():
        monkeypatch.setattr(rules, name, value)
