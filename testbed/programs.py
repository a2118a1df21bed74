"""The programs as a user starts them: devices with an identity, and processes whose lines can be waited for."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

ROOT: Final = Path(__file__).resolve().parents[1]
CREATE_SELFSIGNED_ID: Final = ROOT / "applications/maintenance/src/create_selfsigned_id.py"
CREATE_ID_CSR: Final = ROOT / "applications/maintenance/src/create_id_csr.py"
INSTALL_CERTIFICATE: Final = ROOT / "applications/maintenance/src/install_certificate.py"
GENERATE_TLSA: Final = ROOT / "applications/maintenance/src/generate_tlsa.py"
PUBLISH_TLSA: Final = ROOT / "applications/maintenance/src/publish_tlsa.py"
EPOCH_ID: Final = ROOT / "applications/maintenance/src/epoch_id.py"
EPOCH_KEYS: Final = ROOT / "applications/messaging_receiver/src/epoch_keys.py"
ROTATE_ID: Final = ROOT / "applications/maintenance/src/rotate_id.py"
CHECK_IDENTITY: Final = ROOT / "applications/maintenance/src/check_identity.py"
MAINTENANCE: Final = ROOT / "applications/maintenance/src/application.py"
SEND_MESSAGE: Final = ROOT / "applications/messaging_sender/src/send_message.py"
SENDER: Final = ROOT / "applications/messaging_sender/src/application.py"
RECEIVER: Final = ROOT / "applications/messaging_receiver/src/application.py"

# `dane-messenger`, with a verb as its first argument.
COMMAND: Final = ROOT / "dane_messenger/__main__.py"

SUBSCRIBED: Final = "MQTT subscription active."
_PATIENCE: Final = 20.0


def descendants(number: int) -> list[int]:
    """Return the processes that a process and its children have started; each child before its own children.

    Args:
        number: The process; if it has just ended, there are none.
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{number}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended.

    Args:
        status: Its exit status.
        stdout: What it printed.
        stderr: Its log.
    """

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the lab.

    Args:
        name: Its identity name.
        crypto_path: The directory of its key and certificate.
        settings: The environment variables of its programs.
        entrance: Prefix of a command line, to run it inside a network namespace.
    """

    name: str
    crypto_path: Path
    settings: Mapping[str, str]
    entrance: Sequence[str] = field(default=())

    @property
    def topic(self) -> str:
        """The topic of messages to it, which its settings determine."""
        is_joined_by_slashes = self.settings.get("MQTT_TOPIC_FORMAT") == "slashes"
        name = self.name.replace(".", "/") if is_joined_by_slashes else self.name
        return self.settings.get("MQTT_TOPIC_PREFIX", "") + name

    @property
    def key_path(self) -> Path:
        """The file of the private key."""
        return self.crypto_path / f"{self.name}.key.pem"

    @property
    def certificate_path(self) -> Path:
        """The file of the certificate."""
        return self.crypto_path / f"{self.name}.crt.pem"

    def with_settings(self, **settings: str) -> Self:
        """Return the device with other environment variables."""
        return type(self)(self.name, self.crypto_path, {**self.settings, **settings}, self.entrance)

    def without_setting(self, name: str) -> Self:
        """Return the device without one of its environment variables."""
        settings = {key: value for key, value in self.settings.items() if key != name}
        return type(self)(self.name, self.crypto_path, settings, self.entrance)

    def environment(self) -> dict[str, str]:
        """Return the whole environment of a program of the device."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **self.settings}

    def command(self, program: Path, *arguments: str) -> list[str]:
        """Return the command line of a Python program."""
        return [*self.entrance, sys.executable, str(program), *arguments]

    def run(self, program: Path, *arguments: str, stdin: str | bytes = b"", timeout: float = 60) -> Result:
        """Run a program to its end.

        Args:
            program: Its file.
            arguments: Its arguments.
            stdin: Its input.
            timeout: How many seconds it may take.
        """
        done = subprocess.run(
            self.command(program, *arguments),
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env=self.environment(),
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def send(self, recipient: "Device | str", *arguments: str, stdin: str | bytes = b"", timeout: float = 60) -> Result:
        """Run send_message.py.

        Args:
            recipient: A device or a name.
            arguments: The message, or options.
            stdin: Its input.
            timeout: How many seconds it may take.
        """
        name = recipient if isinstance(recipient, str) else recipient.name
        return self.run(SEND_MESSAGE, name, *arguments, stdin=stdin, timeout=timeout)

    def start(self, program: Path, *arguments: str) -> "Program":
        """Start a program that keeps running; it ends with the `with` statement at the latest."""
        return Program(self.command(program, *arguments), self.environment())

    def receiver(self) -> "Program":
        """Start the receiver and wait until it has subscribed."""
        program = self.start(RECEIVER)
        try:
            program.wait_for_log(SUBSCRIBED)
        except BaseException:
            program.close()
            raise
        return program

    def tlsa_record(self) -> str:
        """Return the record of the device's certificate, `3 0 0 HEX`, without waiting for generate_tlsa.py to start."""
        certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
        return f"3 0 0 {certificate.public_bytes(Encoding.DER).hex()}"


class Program:
    """A running program, the lines of its stdout and stderr, and its stdin as a pipe.

    Args:
        command: Its command line.
        environment: Its whole environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self.stdout), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the program has not ended."""
        return self._process.poll() is None

    @property
    def process_id(self) -> int:
        """The number of its process."""
        return self._process.pid

    def wait_for_news(self, timeout: float) -> None:
        """Wait until a line comes, at most so many seconds."""
        with self._news:
            self._news.wait(timeout)

    def wait_for(self, what: str, predicate: Callable[[], bool], timeout: float = _PATIENCE) -> None:
        """Wait until the lines so far fulfil a condition.

        Args:
            what: What is waited for, for the error message.
            predicate: Checks `stdout` and `stderr`.
            timeout: Seconds.

        Raises:
            AssertionError: It did not come in time, or the program ended before.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while not predicate():
                open_ends = any(reader.is_alive() for reader in self._readers)
                if not self._news.wait(min(0.5, deadline - time.monotonic())) and (
                    time.monotonic() > deadline or not open_ends
                ):
                    break
            else:
                return
        shown = "\n".join(["stdout:", *self.stdout[-15:], "stderr:", *self.stderr[-25:]])
        raise AssertionError(f"no {what} within {timeout:g} s; status {self._process.poll()}\n{shown}")

    def wait_for_log(self, text: str, timeout: float = _PATIENCE) -> None:
        """Wait until a line of stderr contains a text."""
        self.wait_for(f"log line with {text!r}", lambda: any(text in line for line in self.stderr), timeout)

    def wait_for_message(self, text: str, timeout: float = _PATIENCE) -> str:
        """Wait until a line of stdout contains a text, and return the line."""
        self.wait_for(f"message with {text!r}", lambda: any(text in line for line in self.stdout), timeout)
        return next(line for line in self.stdout if text in line)

    def wait_for_refusal(self, reason: str, timeout: float = _PATIENCE, *, after: int = 0) -> str:
        """Wait until a message is refused for a reason, and return the log line.

        Args:
            reason: The reason code.
            timeout: Seconds.
            after: How many lines of stderr to skip.
        """

        def refusals() -> list[str]:
            return [line for line in self.stderr[after:] if f"refused reason={reason}" in line]

        self.wait_for(f"refusal with reason={reason}", lambda: bool(refusals()), timeout)
        return refusals()[0]

    def write(self, text: str) -> None:
        """Write to its stdin, which stays open."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(text.encode())
        stdin.flush()

    def write_all(self, text: str) -> None:
        """Write the whole of its stdin without waiting for it to read."""
        stdin = self._process.stdin
        assert stdin is not None

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), stdin:
                stdin.write(text.encode())

        threading.Thread(target=write, daemon=True).start()

    def end_input(self) -> None:
        """Let it read the end of its stdin."""
        stdin = self._process.stdin
        assert stdin is not None
        # A program that has ended reads no more.
        with contextlib.suppress(BrokenPipeError):
            stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait_for_end(self, timeout: float = _PATIENCE) -> int:
        """Wait until the program has ended and all its lines are here, and return its exit status."""
        status = self._process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return status

    def stop(self, timeout: float = _PATIENCE) -> int:
        """End the program by SIGTERM and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_for_end(timeout)

    def kill(self) -> None:
        """End the program by SIGKILL."""
        self._process.kill()
        self.wait_for_end()

    def close(self) -> None:
        """Kill it if it still runs, and release its resources."""
        if self.is_running:
            self.kill()
        self.end_input()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _read(self, stream: IO[bytes], lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line.decode().removesuffix("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()
