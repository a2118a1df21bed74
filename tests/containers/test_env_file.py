"""Compose reads a file of settings as the programs do."""

import json
import subprocess
from pathlib import Path

from idlib.errors import ConfigurationError
from idlib.settings.env_file import parse
from testbed.containers.engine import DOCKER
from testbed.env_files import random_lines


def test_compose_reads_each_accepted_line_in_the_same_way(tmp_path: Path) -> None:
    ours: dict[str, str] = {}
    accepted = ["HOOK='logger \"$ROTATE_STEP\"'"]
    for line in random_lines(13, 4000):
        try:
            ours |= parse(line.encode(), "file")
        except ConfigurationError:
            continue
        accepted.append(line)
    assert len(accepted) > 2000
    (tmp_path / "alice.env").write_text("\n".join(accepted))
    (tmp_path / "compose.yml").write_text("services: {alice: {image: none, env_file: alice.env}}\n")
    command = [DOCKER, "compose", "--file", str(tmp_path / "compose.yml"), "config", "--format", "json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    # A dollar sign is doubled in what it prints.
    theirs = {
        name: value.replace("$$", "$")
        for name, value in json.loads(printed)["services"]["alice"]["environment"].items()
    }
    assert theirs == {**ours, "HOOK": 'logger "$ROTATE_STEP"'}
