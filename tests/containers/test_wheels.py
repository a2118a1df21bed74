"""Nothing has to be compiled on the 64-bit platforms, and only cffi on 32-bit ARM."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from testbed.containers.engine import REPOSITORY

# The version of the base image's C library, and earlier ones.
LIBRARY_VERSIONS: Final = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
LOCK: Final = REPOSITORY / "requirements/runtime.txt"


def install(directory: Path, architecture: str, requirements: Path) -> "subprocess.CompletedProcess[str]":
    """Let pip decide which wheels it would install."""
    platforms = [f"--platform=manylinux_{version}_{architecture}" for version in LIBRARY_VERSIONS]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", "--python-version=3.13", "--implementation=cp"),
            *("--abi=cp313", "--abi=abi3", "--abi=none", f"--platform=manylinux2014_{architecture}", *platforms),
            *("--target", str(directory), "--requirement", str(requirements)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_locked_package_has_a_wheel(tmp_path: Path, architecture: str) -> None:
    done = install(tmp_path, architecture, LOCK)
    assert done.returncode == 0, done.stderr
    assert "cryptography-" in done.stdout.partition("Would install")[2]


def test_on_32_bit_arm_every_locked_package_but_cffi_has_a_wheel(tmp_path: Path) -> None:
    first, cffi, rest = LOCK.read_text().partition("\ncffi==")
    assert cffi
    own, following, rest = rest.partition("\ncharset-normalizer==")
    only_cffi, others = tmp_path / "cffi.txt", tmp_path / "others.txt"
    only_cffi.write_text(f"cffi=={own}\n")
    others.write_text(f"{first}{following}{rest}")
    done = install(tmp_path / "target", "armv7l", others)
    assert done.returncode == 0, done.stderr
    assert "cryptography-" in done.stdout.partition("Would install")[2]
    # If it ever succeeds, the Dockerfile need not compile anything.
    assert "No matching distribution found for cffi" in install(tmp_path / "target", "armv7l", only_cffi).stderr
