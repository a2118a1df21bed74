"""Adds the completion scripts and the man pages to the wheel, as files that are installed below `share/`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SharedFilesHook(BuildHookInterface[Any]):
    """Runs `python -m build_hooks` for each wheel, normal or editable.

    It runs in a process of its own, because the build backend must not import the packages that it builds.
    """

    _directory: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's
        """Generate the files, and have them added to the wheel.

        Args:
            version: Of the target, such as "standard" or "editable".
            build_data: What the build adds to the wheel.

        Raises:
            subprocess.CalledProcessError: They cannot be generated.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="dane-messenger-"))
        try:
            subprocess.run([sys.executable, "-m", "build_hooks", str(self._directory)], cwd=self.root, check=True)
        except BaseException:
            self._remove()
            raise
        for path in sorted(self._directory.rglob("*")):
            if path.is_file():
                build_data["shared_data"][str(path)] = str(path.relative_to(self._directory))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the generated files.

        Args:
            version: Of the target.
            build_data: What the build has added to the wheel.
            artifact_path: The wheel.
        """
        self._remove()

    def _remove(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None
