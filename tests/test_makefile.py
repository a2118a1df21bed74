"""`make setup` works wherever the checkout is, and after it was moved."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.programs import ROOT

PACKAGES = ("build_hooks", "dane_messenger", "idlib", "messaging_maintenance", "messaging_receiver", "messaging_sender")
LOCALES: tuple[dict[str, str], ...] = (
    {},
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout, at a path that is not ASCII, whose locked packages are those of these tests."""
    path = tmp_path_factory.mktemp("checkout") / "My Pi" / "Jürgen"
    path.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, path)
    for package in (*PACKAGES, "applications"):
        shutil.copytree(ROOT / package, path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (path / "requirements").mkdir()
    for name in ("demo", "development"):
        (path / "requirements" / f"{name}.txt").touch()
    for name in ("build", "manual"):
        shutil.copy(ROOT / "requirements" / f"{name}.txt", path / "requirements")
    return path


@pytest.fixture
def checkout(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the checkout."""
    return shutil.copytree(original, tmp_path / "Zoë" / "checkout", symlinks=True)


def make(checkout: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", "--directory", str(checkout), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=100
    )


def set_up(checkout: Path, target: str = "setup", **environment: str) -> None:
    made = make(checkout, f"PYTHON={sys.executable}", target, **environment)
    assert made.returncode == 0, made.stderr


def version(checkout: Path, *command: str, **environment: str) -> str:
    """Return the version that a program of the checkout prints."""
    variables = {"PATH": os.environ["PATH"], **environment}
    ended = subprocess.run(
        [str(checkout / command[0]), *command[1:], "--version"],
        cwd="/",
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_programs_start_in_every_locale(checkout: Path) -> None:
    set_up(checkout, LC_ALL="C")
    for locale in LOCALES:
        assert version(checkout, ".venv/bin/dane-messenger", **locale).startswith("dane-messenger ")
        assert version(checkout, "applications/maintenance/src/application.py", **locale).startswith("application.py ")


@pytest.mark.parametrize("target", ["setup", ".venv/editable.stamp"])
def test_a_locale_that_cannot_encode_the_path_of_the_checkout_is_reported(target: str, checkout: Path) -> None:
    made = make(checkout, f"PYTHON={sys.executable}", target, **LOCALES[-1])
    assert made.returncode == 2
    assert "set LC_ALL=C.UTF-8" in made.stderr


def test_a_normal_install_is_updated_when_make_runs(checkout: Path) -> None:
    set_up(checkout)
    source = checkout / "idlib" / "__init__.py"
    source.write_text(source.read_text().replace('__version__ = "', '__version__ = "9'))
    assert " 9" not in version(checkout, ".venv/bin/dane-messenger")
    set_up(checkout)
    assert " 9" in version(checkout, ".venv/bin/dane-messenger")


def test_an_editable_install_changes_at_once(checkout: Path) -> None:
    set_up(checkout, ".venv/editable.stamp")
    source = checkout / "idlib" / "__init__.py"
    source.write_text(source.read_text().replace('__version__ = "', '__version__ = "9'))
    assert " 9" in version(checkout, ".venv/bin/dane-messenger")
    set_up(checkout)
    assert not (checkout / ".venv" / "installed.stamp").exists()


def test_a_checkout_that_has_moved_is_set_up_again(checkout: Path) -> None:
    set_up(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    assert version(moved, "applications/maintenance/src/application.py").startswith("application.py ")
    set_up(moved)
    assert version(moved, ".venv/bin/dane-messenger").startswith("dane-messenger ")


def test_an_environment_whose_python_is_gone_is_created_again(checkout: Path) -> None:
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    (checkout / ".venv" / "installed.stamp").touch()
    set_up(checkout)
    assert version(checkout, ".venv/bin/dane-messenger").startswith("dane-messenger ")


@pytest.mark.parametrize("python", ["true-but-not-there", ""])
def test_a_missing_python_is_reported(python: str, checkout: Path) -> None:
    refused = make(checkout, f"PYTHON={python}", "setup")
    assert refused.returncode == 2
    assert "Python 3.11 or newer is needed" in refused.stderr


def test_a_python_that_is_too_old_is_rejected(checkout: Path) -> None:
    old = checkout / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = make(checkout, "PYTHON=./python3.10", "demo")
    assert refused.returncode == 2
    assert "Python 3.11 or newer is needed: set PYTHON to one, as in make demo PYTHON=python3.13" in refused.stderr
    assert not (checkout / ".venv").exists()
