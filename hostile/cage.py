"""The limits of the receiver's container, set by control groups for a process on this machine."""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# The receiver's limits in docker-compose.yml; a test compares them.
MEMORY_BYTES: Final = 128 * 1024 * 1024
MAX_PROCESSES: Final = 64
_ROOT: Final = Path("/sys/fs/cgroup")
_ENTER: Final = 'group=$1; other=$2; shift 2; echo $$ > "$group" && echo $$ > "$other" && exec "$@"'
_REMOVAL_SECONDS: Final = 5.0


class CageError(RuntimeError):
    """A control group cannot be created by this process; the message gives the reason."""


class Cage:
    """A control group with the container's limits, removed after the `with` statement.

    Args:
        root: The directory where control groups are mounted.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._is_unified = (root / "cgroup.controllers").exists()
        name = f"hostile-{os.getpid()}"
        if self._is_unified:
            self._groups: tuple[Path, ...] = (root / name,)
            self._limits = {
                root / name / "memory.max": MEMORY_BYTES,
                root / name / "pids.max": MAX_PROCESSES,
            }
        else:
            self._groups = (root / "memory" / name, root / "pids" / name)
            self._limits = {
                root / "memory" / name / "memory.limit_in_bytes": MEMORY_BYTES,
                root / "pids" / name / "pids.max": MAX_PROCESSES,
            }

    def __enter__(self) -> Self:
        """Create the group.

        Raises:
            CageError: The system does not allow this.
        """
        try:
            if self._is_unified:
                (self._groups[0].parent / "cgroup.subtree_control").write_text("+memory +pids")
            for group in self._groups:
                group.mkdir()
            for file, limit in self._limits.items():
                file.write_text(str(limit))
        except OSError as error:
            self._remove()
            raise CageError(f"no control group can be created: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def entrance(self) -> tuple[str, ...]:
        """Prefix of a command line that makes it run inside."""
        files = [str(group / "cgroup.procs") for group in self._groups]
        return ("sh", "-c", _ENTER, "sh", files[0], files[-1])

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed because of the memory limit."""
        name = "memory.events" if self._is_unified else "memory.oom_control"
        found = re.search(r"^oom_kill (\d+)$", (self._groups[0] / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def _remove(self) -> None:
        deadline = time.monotonic() + _REMOVAL_SECONDS
        for group in self._groups:
            # A process that was killed leaves its group a moment later.
            while group.exists():
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                if time.monotonic() > deadline:
                    # Only in a test's own directory can files be removed this way.
                    shutil.rmtree(group, ignore_errors=True)
                    break
                time.sleep(0.05)
