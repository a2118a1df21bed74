"""Fixtures of the tests of the transport: the settings of a device, certificates in files, and short delays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.settings import Settings, load
from idlib.transport import subscription

Load = Callable[..., Settings]


@pytest.fixture
def load_with() -> Load:
    """Return a function that reads an environment of IDENTITY_NAME and some more variables."""
    return lambda **environment: load({"IDENTITY_NAME": "alice._device.example.com", **environment})


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Return a function that writes a file and returns its path."""

    def write(name: str, contents: bytes) -> str:
        (tmp_path / name).write_bytes(contents)
        return str(tmp_path / name)

    return write


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the subscriber reconnect at once."""
    monkeypatch.setattr(subscription, "_SHORTEST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(subscription, "_LONGEST_BACKOFF_SECONDS", 0.05)
