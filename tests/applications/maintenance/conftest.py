import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.applications.maintenance.rotation.world import World

NAME = "alice._device.example.test"
PROGRAMS = Path(__file__).parents[3] / "applications" / "maintenance" / "src"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def crypto_path(tmp_path: Path) -> Path:
    return tmp_path / "identity"


@pytest.fixture
def run(tmp_path: Path, crypto_path: Path) -> Run:
    """Run a maintenance program from another directory, as a user does, with IDENTITY_NAME and CRYPTO_PATH set."""

    def run_program(
        program: str, *arguments: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": os.environ["PATH"], "IDENTITY_NAME": NAME, "CRYPTO_PATH": str(crypto_path)}
        return subprocess.run(
            [sys.executable, "-W", "error", str(PROGRAMS / program), *arguments],
            input=stdin,
            env={**variables, "APP_UID": str(os.getuid()), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run_program


@pytest.fixture
def files(crypto_path: Path) -> Callable[[], dict[str, bytes]]:
    """Return a function that reads the identity's files; NAME is removed from their names."""
    return lambda: {path.name.removeprefix(NAME): path.read_bytes() for path in crypto_path.iterdir()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.fixture
def device(world: World) -> World:
    """Return a device with an identity and a published record."""
    world.create()
    return world
