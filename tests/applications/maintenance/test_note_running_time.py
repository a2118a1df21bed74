import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from messaging_maintenance.rotation.state import Way
from tests.applications.maintenance.rotation.world import World


def note(environment: Mapping[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "messaging_maintenance.note_running_time"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("", "")


def test_the_program_notes_the_running_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        world = World(tmp_path, patched)
        world.create()
        world.is_set = False
        world.rotation.start(Way.OVERLAP)
    assert world.state.running is None
    note(world.environment)
    assert world.state.running is not None


def test_problems_are_left_to_the_check(tmp_path: Path) -> None:
    note({})
    note({"IDENTITY_NAME": "alice._device.example.test", "CRYPTO_PATH": str(tmp_path / "nowhere")})
