"""Small disks, and disks that fail."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a disk of eight megabytes at the directory, and yield the directory."""
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.fail("only root can mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


class FailingDisk:
    """A disk that can become read-only after an error while files on it are open, and can be repaired.

    Args:
        directory: The mount point, during the `with` statement.
    """

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            pytest.fail("only root can mount a small disk")
        self.directory = directory
        self._image = directory.with_suffix(".image")

    def __enter__(self) -> Self:
        self.directory.mkdir()
        with self._image.open("wb") as image:
            image.truncate(16 * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True)
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.directory)], check=True)

    def fail(self) -> None:
        """Make every write fail from now on."""
        subprocess.run(["mount", "--options", "remount,abort", str(self.directory)], check=True)

    def mend(self) -> None:
        """Check it and mount it again; no file on it may be open."""
        subprocess.run(["umount", str(self.directory)], check=True)
        # The failed one may stay mounted in a namespace that another test has created, and another mount of the same
        # image would then get it.
        mended = self._image.with_name(f"mended-{self._image.name}")
        shutil.copyfile(self._image, mended)
        self._image = mended
        # Status 1: errors were found and corrected.
        assert subprocess.run(["e2fsck", "-f", "-p", str(self._image)], check=False, capture_output=True).returncode < 2
        self._mount()

    def _mount(self) -> None:
        subprocess.run(["mount", "--options", "loop", str(self._image), str(self.directory)], check=True)


def fill(directory: Path) -> Path:
    """Fill the disk to its last page, and return the file to remove so that there is room again."""
    path = directory / "filler"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    return path
