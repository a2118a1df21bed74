"""A receiver whose output goes to a file, so that measuring it costs almost no processor time."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from testbed.programs import RECEIVER, SUBSCRIBED, Device, descendants

PATIENCE_SECONDS: Final = 240.0
_POLL_SECONDS: Final = 0.01
_END_BYTES: Final = 4096


class RunningReceiver:
    """A receiver and its worker processes, as the system sees them.

    Args:
        device: Whose receiver.
        prefix: Words before its command line, for example to choose its processors.
    """

    def __init__(self, device: Device, prefix: Sequence[str] = ()) -> None:
        directory = Path(device.settings["DATA_PATH"]).parent
        self._stdout, self._stderr = directory / "stdout", directory / "stderr"
        self._lines, self._offset = 0, 0
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *prefix, *device.command(RECEIVER)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=device.environment(),
            )

    def __enter__(self) -> Self:
        self.wait_until(lambda: SUBSCRIBED in self._stderr.read_text(), "subscription")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()

    def lines(self) -> int:
        """Return how many lines it has printed so far."""
        with self._stdout.open("rb") as stdout:
            stdout.seek(self._offset)
            new = stdout.read()
        self._offset += len(new)
        self._lines += new.count(b"\n")
        return self._lines

    def last_lines(self) -> str:
        """Return the end of what it has printed."""
        with self._stdout.open("rb") as stdout:
            stdout.seek(max(0, self._stdout.stat().st_size - _END_BYTES))
            return stdout.read().decode(errors="replace")

    def different_lines(self, first: int) -> int:
        """Return how many lines are different from each other.

        Args:
            first: How many lines at the beginning are not counted.
        """
        return len(set(self._stdout.read_bytes().splitlines()[first:]))

    def wait_for_lines(self, number: int) -> None:
        """Wait until it has printed so many lines in all.

        Raises:
            AssertionError: It did not, for a long time.
        """
        self.wait_until(lambda: self.lines() >= number, f"{number} lines")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition is true.

        Args:
            condition: Called a hundred times a second.
            what: What is waited for, for the error message.

        Raises:
            AssertionError: It was not true for a long time, or the receiver ended.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline or self._process.poll() is not None:
                end = "\n".join(self._stderr.read_text().splitlines()[-20:])
                raise AssertionError(f"the receiver: no {what}; {self._lines} lines; the end of its log:\n{end}")
            time.sleep(_POLL_SECONDS)

    def stop_processing(self) -> None:
        """Halt it, so that messages wait."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._process.send_signal(signal.SIGCONT)

    def processor_seconds(self) -> float:
        """Return the processor time of all its threads and worker processes, in seconds."""
        return sum(int(_read(task / "schedstat").split()[0]) for task in self._tasks()) / 1e9

    def wake_ups(self) -> int:
        """Return how often its threads and worker processes have gone to sleep, and so have woken up."""
        return sum(_figure(task / "status", "voluntary_ctxt_switches") for task in self._tasks())

    def memory(self) -> float:
        """Return its memory and that of its worker processes, shared pages counted once, in MiB."""
        return sum(_figure(process / "smaps_rollup", "Pss") for process in self._processes()) / 1024

    def written(self) -> int:
        """Return how many bytes it has written to disks so far."""
        return sum(_figure(process / "io", "write_bytes") for process in self._processes())

    def _processes(self) -> list[Path]:
        return [Path(f"/proc/{number}") for number in (self._process.pid, *descendants(self._process.pid))]

    def _tasks(self) -> list[Path]:
        return [task for process in self._processes() for task in (process / "task").iterdir()]


def _figure(path: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in _read(path).splitlines() if line.startswith(f"{name}:"))


def _read(path: Path) -> str:
    return path.read_text()
