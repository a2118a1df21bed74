"""The programs of earlier releases, unpacked from the archives in tests/releases."""

import tarfile
from pathlib import Path

from testbed.programs import RECEIVER, ROOT, SEND_MESSAGE, SUBSCRIBED, Device, Program

_ARCHIVES = ROOT / "tests/releases"


class Release:
    """One release: its programs and its library, with the currently installed packages.

    Args:
        version: The name of its directory in tests/releases.
        directory: An empty directory to unpack into.
    """

    def __init__(self, version: str, directory: Path) -> None:
        self._directory = directory
        with tarfile.open(_ARCHIVES / version / "programs.tar.gz") as archive:
            archive.extractall(directory, filter="data")

    def device(self, device: Device) -> Device:
        """Return the same device with the library of the release first on its path."""
        return device.with_settings(PYTHONPATH=str(self._directory))

    def program(self, program: Path) -> Path:
        """Return the path of a program of the release.

        Args:
            program: The path of the current one.
        """
        return self._directory / program.relative_to(ROOT)

    def start_receiver(self, device: Device) -> Program:
        """Start the receiver of the release and wait until it has subscribed."""
        program = self.device(device).start(self.program(RECEIVER))
        try:
            program.wait_for_log(SUBSCRIBED)
        except BaseException:
            program.close()
            raise
        return program

    @property
    def send_message(self) -> Path:
        """The path of its send_message.py."""
        return self.program(SEND_MESSAGE)
