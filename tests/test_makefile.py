"""What `make setup` lays out, wherever the checkout is and wherever it goes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout in a directory that no ASCII name has."""
    path = tmp_path / "My Pi" / "Jürgen"
    path.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", path)
    (path / "requirements").mkdir()
    (path / "requirements" / "demo.txt").touch()
    (path / "idlib").mkdir()
    (path / "idlib" / "__init__.py").write_text("")
    return path


def make(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", "--directory", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def found_idlib(checkout: Path, **environment: str) -> Path:
    """Return where a program of the checkout finds idlib."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python), "-c", "import idlib, os, sys; sys.stdout.buffer.write(os.fsencode(idlib.__file__))"]
    variables = {"PATH": os.environ["PATH"], **environment}
    ended = subprocess.run(command, cwd="/", env=variables, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Path(os.fsdecode(ended.stdout))


def test_the_environment_goes_along_when_the_checkout_moves(checkout: Path) -> None:
    made = make(checkout, f"PYTHON={sys.executable}", ".venv/path.stamp")
    assert made.returncode == 0, made.stderr
    locales: tuple[dict[str, str], ...] = (
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    )
    for locale in locales:
        assert found_idlib(checkout, **locale) == checkout / "idlib" / "__init__.py"
    moved = checkout.rename(checkout.with_name("moved"))
    assert found_idlib(moved) == moved / "idlib" / "__init__.py"


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    (checkout / ".venv" / "path.stamp").touch()
    made = make(checkout, f"PYTHON={sys.executable}", ".venv/path.stamp")
    assert made.returncode == 0, made.stderr
    assert found_idlib(checkout) == checkout / "idlib" / "__init__.py"


@pytest.mark.parametrize("python", ["true-but-not-there", ""])
def test_without_a_python_that_is_new_enough_it_says_so(python: str, checkout: Path) -> None:
    refused = make(checkout, f"PYTHON={python}", "setup")
    assert refused.returncode == 2
    assert "Python 3.11 or newer is needed" in refused.stderr


def test_a_python_that_is_too_old_is_refused(checkout: Path) -> None:
    old = checkout / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = make(checkout, "PYTHON=./python3.10", "demo")
    assert refused.returncode == 2
    assert "Python 3.11 or newer is needed: set PYTHON to one, as in make demo PYTHON=python3.13" in refused.stderr
    assert not (checkout / ".venv").exists()
