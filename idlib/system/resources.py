"""How many processor cores and how much memory this process may use: a container may have less than the machine."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
_CGROUPS: Final = Path("sys/fs/cgroup")
_OF_THIS_PROCESS: Final = Path("proc/self/cgroup")
# The kernel writes a number close to 2**63 if there is no limit (cgroup v1).
_NO_LIMIT: Final = 2**60


def usable_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may use: at least 1, rounded up.

    Args:
        root: The root of the file system; another one in tests.
    """
    cores = len(os.sched_getaffinity(0))
    for directory in _directories(root, "cpu"):
        quota, period = _quota(directory)
        if quota > 0 and period > 0:
            cores = min(cores, max(1, math.ceil(quota / period)))
    return cores


def memory_limit(root: Path = ROOT) -> int | None:
    """Return how many bytes of memory the container of this process may use; None if it has no limit of its own.

    Args:
        root: The root of the file system; another one in tests.
    """
    limits = [
        limit
        for directory in _directories(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if 0 < (limit := _number(directory / name)) < _NO_LIMIT
    ]
    return min(limits, default=None)


def _directories(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of the process's cgroups and of those above them, for cgroup v2 and v1."""
    try:
        lines = (root / _OF_THIS_PROCESS).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        top = root / _CGROUPS / (controller if controllers else "")
        place = top / path.lstrip("/")
        yield place
        yield from (parent for parent in place.parents if parent == top or top in parent.parents)


def _quota(directory: Path) -> tuple[int, int]:
    """Return how many microseconds of processor time the cgroup gets in a period, and that period; 0 for no limit."""
    quota, _, period = _text(directory / "cpu.max").partition(" ")
    if quota:
        return _integer(quota), _integer(period)
    return _number(directory / "cpu.cfs_quota_us"), _number(directory / "cpu.cfs_period_us")


def _number(path: Path) -> int:
    return _integer(_text(path))


def _integer(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
