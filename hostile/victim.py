"""The receiver under attack: each of its runs, what it printed and when, and the resources it used."""

import os
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from chaos.delivery_report import ReceiverRun, texts_of
from chaos.receiver import Receiver
from testbed.programs import RECEIVER, Device, Program, descendants

_KEPT_LINES: Final = 400
_WATCH_SECONDS: Final = 0.25
_LOG_WINDOW_SECONDS: Final = 10.0
_FIELD: Final = re.compile(r"\b([a-z_-]+)=(\d+)\b")
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


class WatchedProgram(Program):
    """A running receiver; only the end of its log is kept.

    Args:
        command: Its command line.
        environment: Its whole environment.
        printed: Called with the text of each line of its stdout.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], printed: Callable[[str], None]) -> None:
        self.log_bytes = 0
        self._printed = printed
        super().__init__(command, environment)

    def _read(self, stream: IO[bytes], lines: list[str]) -> None:
        is_log = lines is self.stderr
        for line in stream:
            text = line.decode().removesuffix("\n")
            if is_log:
                self.log_bytes += len(line)
            else:
                self._printed(texts_of([text])[0])
            with self._news:
                lines.append(text)
                if is_log and len(lines) > 2 * _KEPT_LINES:
                    del lines[:-_KEPT_LINES]
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


class Victim(Receiver):
    """A receiver that is restarted whenever it ends, like its container, and measured while it runs.

    Args:
        device: The recipient.
    """

    def __init__(self, device: Device) -> None:
        self.printed_at: dict[str, float] = {}
        self.unexpected_ends: list[str] = []
        self.counted: Counter[str] = Counter()
        self.peak_memory = 0
        self.peak_disk = 0
        self.log_bytes = 0
        self.peak_log_rate = 0.0
        self._data = Path(device.settings["DATA_PATH"])
        self._lock = threading.RLock()
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._log_history: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        super().__init__(device)
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    @property
    def process_id(self) -> int:
        """Its process ID."""
        with self._lock:
            assert self._program is not None
            return self._program.pid

    def cpu_seconds(self) -> float:
        """Return how much processor time the present run has used, its worker processes included."""
        numbers = (self.process_id, *descendants(self.process_id))
        return sum(map(_ticks_of, numbers)) / _TICKS_A_SECOND

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with self._lock:
            if self._program is not None:
                self._program.signal(number)

    def wait_until_printed(self, texts: Sequence[str], patience: float) -> bool:
        """Return whether all of these texts are printed, after at most some seconds.

        Args:
            texts: Texts of messages.
            patience: Seconds.
        """
        deadline = time.monotonic() + patience
        with self._news:
            while not all(text in self.printed_at for text in texts):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(min(left, 0.5))
        return True

    def wait_for_first(self, texts: Sequence[str], patience: float) -> float | None:
        """Return when the first of some texts was printed, on the monotonic clock; None if none is within some seconds.

        Args:
            texts: Texts of messages.
            patience: Seconds.
        """
        deadline = time.monotonic() + patience
        with self._news:
            while not (printed := [self.printed_at[text] for text in texts if text in self.printed_at]):
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(min(left, 0.5))
        return min(printed)

    def start(self) -> None:
        """Start the receiver, without waiting until it is subscribed."""
        with self._lock:
            self._program = self._begin()

    def end(self, ending: signal.Signals) -> None:
        """End the receiver with a signal."""
        with self._lock:
            assert self._program is not None
            if self._program.is_running:
                self._program.signal(ending)
            self._record_end(asked_for=ending)

    def close(self) -> None:
        """End the receiver, in any state."""
        self._stopping.set()
        self._watching.join()
        super().close()

    def _begin(self) -> Program:
        return WatchedProgram(self._device.command(RECEIVER), self._device.environment(), self._note_printed)

    def _note_printed(self, text: str) -> None:
        with self._news:
            self.printed_at.setdefault(text, time.monotonic())
            self._news.notify_all()

    def _record_end(self, asked_for: signal.Signals | None) -> None:
        program, self._program = self._program, None
        assert isinstance(program, WatchedProgram)
        # A receiver that does not react to SIGTERM in time is ended, and that is a separate fault.
        try:
            status = program.wait_for_end()
        except Exception:  # noqa: BLE001
            self.unexpected_ends.append("did not end within 20 s of SIGTERM")
            program.kill()
            status = program.wait_for_end()
        # A signal may arrive before the program handles it.
        if asked_for is None or status not in (0, -asked_for):
            self.unexpected_ends.append(f"ended with status {status}: {' | '.join(program.stderr[-1:])}")
        self._ended.append(ReceiverRun(texts_of(program.stdout), was_killed=status == -signal.SIGKILL))
        self.log_bytes += program.log_bytes
        self.counted = counts(next((line for line in reversed(program.stderr) if "received=" in line), ""))
        program.close()

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_SECONDS):
            with self._lock:
                if self._program is not None and not self._program.is_running:
                    self._record_end(asked_for=None)
                    self._program = self._begin()
                self._measure()

    def _measure(self) -> None:
        program = self._program
        if isinstance(program, WatchedProgram):
            self.peak_memory = max(self.peak_memory, _peak_memory(program.pid))
            now, written = time.monotonic(), self.log_bytes + program.log_bytes
            while self._log_history and now - self._log_history[0][0] > _LOG_WINDOW_SECONDS:
                self._log_history.popleft()
            if self._log_history:
                begun_at, before = self._log_history[0]
                seconds = max(now - begun_at, _LOG_WINDOW_SECONDS)
                self.peak_log_rate = max(self.peak_log_rate, (written - before) / seconds)
            self._log_history.append((now, written))
        self.peak_disk = max(self.peak_disk, directory_size(self._data))


def counts(line: str) -> Counter[str]:
    """Return the numbers in a status line, or in the receiver's last line.

    Args:
        line: With `name=number` in it.
    """
    return Counter({name: int(number) for name, number in _FIELD.findall(line)})


def directory_size(directory: Path) -> int:
    """Return how many bytes the files of a directory take; files that are removed meanwhile do not count.

    Args:
        directory: Has no subdirectories; may not exist yet.
    """
    total = 0
    for path in directory.glob("**/*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def _ticks_of(process_id: int) -> int:
    """Return the processor time that a process has used; 0 if it has just ended."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _peak_memory(process_id: int) -> int:
    """Return the peak resident memory of a process, in bytes; 0 if it has just ended."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path(f"/proc/{process_id}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
