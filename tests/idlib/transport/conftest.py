"""Fixtures of the tests of the broker's settings: the settings of a device, and certificates in files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from idlib.settings import Settings, load

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
