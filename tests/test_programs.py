"""How the programs are started: through a link, without an environment, and under which version."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import idlib

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(path for path in ROOT.glob("applications/*/src/*.py") if path.read_text().startswith("#!"))


def label(program: Path) -> str:
    return f"{program.parts[-3]}/{program.name}"


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    balena = yaml.safe_load((ROOT / "balena.yml").read_text())
    assert idlib.__version__ == project["version"] == balena["version"]
    assert re.search(rf"^## {re.escape(idlib.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS, ids=label)
def test_a_missing_package_is_reported_in_one_line_with_a_hint(program: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "applications", tmp_path / "applications")
    # Isolated and without site-packages, as any other Python of the system is.
    command = [sys.executable, "-S", "-E", str(tmp_path / program.relative_to(ROOT)), "--help"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == (
        "Error: dane-mqtt-messenger is not installed for this Python; run make setup in the checkout\n"
    )
    assert ended.stdout == ""


@pytest.mark.parametrize("program", PROGRAMS, ids=label)
def test_another_python_starts_the_one_of_the_checkout(program: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-E", str(program), "--version"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"{program.name} {idlib.__version__}\n"


@pytest.mark.parametrize("program", PROGRAMS, ids=label)
def test_a_program_started_through_a_link_finds_its_environment(program: Path, tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.fail("this test needs the environment that make setup lays out")
    (tmp_path / "program").symlink_to(program)
    ended = subprocess.run(
        [str(tmp_path / "program"), "--version"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"program {idlib.__version__}\n", "")
