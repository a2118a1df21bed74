"""On both architectures nothing has to be compiled."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from testbed.containers.engine import REPOSITORY

# The version of the base image's C library, and earlier ones.
LIBRARY_VERSIONS: Final = ("2_17", "2_24", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_locked_package_has_a_wheel(tmp_path: Path, architecture: str) -> None:
    platforms = [f"--platform=manylinux_{version}_{architecture}" for version in LIBRARY_VERSIONS]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", "--python-version=3.13", "--implementation=cp"),
            *("--abi=cp313", "--abi=abi3", "--abi=none", f"--platform=manylinux2014_{architecture}", *platforms),
            *("--target", str(tmp_path), "--requirement", str(REPOSITORY / "requirements/runtime.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cryptography-" in done.stdout.partition("Would install")[2]
