"""`make demo` as its user sees it: on a pipe, on a terminal, interrupted, and with a part of it that dies."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from testbed.lab import wait_until

ROOT = Path(__file__).resolve().parents[2]
ALICE = "alice._device.example.test"
DEMO = (sys.executable, "-m", "lab.demo")


class Demo:
    """A running demo, in a new session, with its temporary files below a separate directory."""

    def __init__(self, directory: Path, *, terminal: bool, command: Sequence[str] = DEMO) -> None:
        self.directory = directory
        self._output = b""
        self._controller, device = pty.openpty() if terminal else os.pipe()
        environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | {"TMPDIR": str(directory), "TERM": "xterm", "IDENTITY_NAME": "not a name", "DNSSEC": "?"},
            stdin=device if terminal else subprocess.DEVNULL,
            stdout=device,
            stderr=device,
            start_new_session=True,
        )
        os.close(device)

    def read_until(self, text: str) -> str:
        """Return all output so far, once the text is in it."""
        while text not in self.output:
            chunk = os.read(self._controller, 65536)
            assert chunk, f"the demo ended without {text!r}: {self.output}"
            self._output += chunk
        return self.output

    def read_all(self) -> str:
        """Return all output, once it has ended."""
        # On Linux, reading from a terminal after its last program has ended is an error; a pipe just ends.
        with contextlib.suppress(OSError):
            while chunk := os.read(self._controller, 65536):
                self._output += chunk
        return self.output

    @property
    def output(self) -> str:
        return self._output.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does, to the demo and its programs."""
        os.killpg(self.process.pid, number)

    def child_running(self, script: str) -> int:
        """Return the process id of the demo's program that runs a script."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                session = (entry / "stat").read_text().rpartition(")")[2].split()[3]
                if session == str(self.process.pid) and script.encode() in (entry / "cmdline").read_bytes():
                    return int(entry.name)
        raise AssertionError(f"{script} does not run")

    def assert_left_nothing(self) -> None:
        assert list(self.directory.iterdir()) == []
        # The worker processes of a receiver that was killed end by themselves, a moment later.
        wait_until(lambda: not self._is_running(), "end of all processes")

    def _is_running(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        self.process.wait()
        os.close(self._controller)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with contextlib.closing(Demo(tmp_path, terminal=False)) as demo:
        yield demo


@pytest.fixture
def demo_on_a_terminal(tmp_path: Path) -> Iterator[Demo]:
    with contextlib.closing(Demo(tmp_path, terminal=True)) as demo:
        yield demo


def test_without_a_terminal_the_demo_shows_every_step_and_ends(demo: Demo) -> None:
    output = demo.read_all()
    assert demo.process.wait() == 0, output
    lines = output.splitlines()
    assert [line for line in lines if line[:1].isdigit()] == [
        "1. A DNS zone and a broker",
        "2. Alice and Bob create their identities",
        "3. Their certificates go into DNS",
        "4. Bob starts his receiver",
        "5. Alice sends Bob a message",
        "6. Mallory sends Bob a message in Alice's name",
    ]
    assert f'   | "{ALICE} says: The kettle is on."' in lines
    assert "bob._device.example.test. 300 IN TLSA 3 0 0 3082" in output
    assert '"dns://bob._device.example.test?type=TLSA"}' in output
    assert "refused reason=signature-invalid" in output
    assert "money" not in output
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert "\033" not in output
    demo.assert_left_nothing()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing_behind(demo: Demo, number: signal.Signals, status: int) -> None:
    demo.read_until("4. Bob starts his receiver")
    demo.signal_all(number)
    output = demo.read_all()
    assert demo.process.wait() == status
    assert "Traceback" not in output
    demo.assert_left_nothing()


def test_on_a_terminal_the_user_can_send_messages_to_bob(demo_on_a_terminal: Demo) -> None:
    demo = demo_on_a_terminal
    demo.read_until("> ")
    demo.type("--lines or not, schönes Wetter\n")
    demo.read_until(f'"{ALICE} says: --lines or not, schönes Wetter"')
    demo.read_until("> ")
    demo.type("x" * 3000 + "\n")
    demo.read_until("x" * 60 + '"')
    demo.type("\n")
    assert "everything is removed" in demo.read_all()
    assert demo.process.wait() == 0
    demo.assert_left_nothing()


def test_a_receiver_that_ends_is_reported_with_status_1(demo_on_a_terminal: Demo) -> None:
    demo = demo_on_a_terminal
    demo.read_until("> ")
    os.kill(demo.child_running("messaging_receiver"), signal.SIGKILL)
    demo.type("hello\n")
    output = demo.read_all()
    assert "The demo failed: messaging_receiver/src/application.py was ended by signal 9" in output
    assert "Traceback" not in output
    assert demo.process.wait() == 1
    demo.assert_left_nothing()


def test_ctrl_c_at_the_prompt_ends_the_demo_like_an_empty_line(demo_on_a_terminal: Demo) -> None:
    demo = demo_on_a_terminal
    demo.read_until("> ")
    demo.type("half typed")
    demo.read_until("half typed")
    # Readline misses a signal that arrives after it has shown a character and before it waits for the next.
    time.sleep(0.5)
    demo.signal_all(signal.SIGINT)
    output = demo.read_all()
    assert "everything is removed" in output
    assert "Interrupted" not in output
    assert "half typedThat" not in output
    assert demo.process.wait() == 0
    demo.assert_left_nothing()


@pytest.fixture
def demo_by_make(tmp_path: Path) -> Iterator[Demo]:
    """Yield a demo that make has started at a terminal whose Ctrl-C reaches whatever is in the foreground there."""
    (tmp_path / "Makefile").write_text(f"demo:\n\t@{' '.join(DEMO)}\n")
    (tmp_path / "files").mkdir()
    command = ("setsid", "--ctty", "--wait", "make", "--no-print-directory", "-f", str(tmp_path / "Makefile"), "demo")
    with contextlib.closing(Demo(tmp_path / "files", terminal=True, command=command)) as demo:
        yield demo


def test_ctrl_c_at_the_prompt_does_not_end_make(demo_by_make: Demo) -> None:
    demo = demo_by_make
    demo.read_until("> ")
    demo.type("hello\n")
    demo.read_until(f'"{ALICE} says: hello"')
    demo.read_until("> ")
    time.sleep(0.5)
    demo.type("\x03")
    output = demo.read_all()
    assert "everything is removed" in output
    assert "Error" not in output
    assert "Interrupt" not in output
    assert demo.process.wait() == 0
    assert list(demo.directory.iterdir()) == []


def test_ctrl_c_before_the_prompt_ends_make_too(demo_by_make: Demo) -> None:
    demo = demo_by_make
    demo.read_until("4. Bob starts his receiver")
    demo.type("\x03")
    demo.read_all()
    assert demo.process.wait() != 0
    assert list(demo.directory.iterdir()) == []
