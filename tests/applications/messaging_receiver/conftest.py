from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.applications.messaging_receiver.epoch_receiver import Receiver
from tests.applications.messaging_receiver.world import World, open_world
from tests.idlib.clocked_device import Device


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("messaging_receiver.deferral.FIRST_RETRY_SECONDS", 0.2)
    with open_world(tmp_path) as world:
        yield world


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Yield a device in simulated time whose clock is synchronized."""
    device = Device(tmp_path / "data", monkeypatch, is_synchronized=True)
    with device.running():
        yield device


@pytest.fixture
def receiver(tmp_path: Path, device: Device) -> Receiver:
    """Return a receiver of that device, as far as its epoch keys are concerned."""
    return Receiver(tmp_path, device)
