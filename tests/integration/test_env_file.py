"""systemd reads a file of settings as the programs do; tests/containers/test_env_file.py has the same for Compose."""

import re
import subprocess
from pathlib import Path
from typing import Final

from idlib.errors import ConfigurationError
from idlib.settings.env_file import parse
from testbed.env_files import random_lines

# It has the parser of EnvironmentFile=, and prints what it has read.
GENERATOR: Final = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"
# systemd knows no empty variable in environment.d, only in EnvironmentFile=.
EMPTY: Final = {""}


def test_systemd_reads_each_accepted_line_in_the_same_way(tmp_path: Path) -> None:
    ours: dict[str, str] = {}
    accepted = []
    for line in random_lines(12, 4000):
        try:
            ours |= parse(line.encode(), "file")
        except ConfigurationError:
            continue
        accepted.append(line)
    assert len(accepted) > 2000
    (tmp_path / "environment.d").mkdir()
    (tmp_path / "environment.d" / "alice.conf").write_text("\n".join(accepted))
    printed = subprocess.run(
        [GENERATOR],
        env={"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    theirs = {}
    for line in printed.splitlines():
        name, _, value = line.partition("=")
        theirs[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
    assert {name: theirs.get(name) for name, value in ours.items() if value not in EMPTY} == {
        name: value for name, value in ours.items() if value not in EMPTY
    }
