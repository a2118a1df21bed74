"""The programs of earlier releases, unpacked from the archives beside the tests."""

import tarfile
from pathlib import Path

from testbed.programs import RECEIVER, ROOT, SEND_MESSAGE, SUBSCRIBED, Device, Program

_ARCHIVES = ROOT / "tests/releases"


class Release:
    """One release: its own programs on its own library, with the packages of today.

    Args:
        version: A directory of the archives.
        directory: An empty one to unpack into.
    """

    def __init__(self, version: str, directory: Path) -> None:
        self._directory = directory
        with tarfile.open(_ARCHIVES / version / "programs.tar.gz") as archive:
            archive.extractall(directory, filter="data")

    def device(self, device: Device) -> Device:
        """Return the same device, whose programs find the library of the release first."""
        return device.with_settings(PYTHONPATH=str(self._directory))

    def program(self, program: Path) -> Path:
        """Return where a program of the release is.

        Args:
            program: Where the one of today is.
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
        """Where its send_message.py is."""
        return self.program(SEND_MESSAGE)
