"""A daemon as a child process: started, waited for by a line of its log, and always stopped."""

import glob
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from testbed.daemons.namespace import Namespace

# Debian has the server of PostgreSQL in a directory of its version, which is on no path.
_POSTGRESQL: Final = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
SEARCH_PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", *_POSTGRESQL])
LOOPBACK: Final = "127.0.0.1"
_LOG_TAIL_LINES: Final = 20
# Below the ports that Linux gives to outgoing connections (net.ipv4.ip_local_port_range).
_FIRST_PORT: Final = 12_000
_PORTS_OF_A_WORKER: Final = 2_000
_MAX_WORKERS: Final = 10


class DaemonError(RuntimeError):
    """A daemon or one of its tools failed; the message has the end of its log."""


def find(command: str) -> str:
    """Return the path of an installed command, including commands for administrators."""
    path = shutil.which(command, path=SEARCH_PATH)
    if path is None:
        raise DaemonError(f"{command} is not installed")
    return path


def free_port() -> int:
    """Return a port of loopback that is free for UDP and TCP and was not returned before.

    It comes from a range that belongs only to this test process, and the kernel gives none of that range to outgoing
    connections, so that a port stays free until a daemon of this process takes it.
    """
    for port in _ports:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            try:
                stream.bind((LOOPBACK, port))
                datagram.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise DaemonError("no free port is left for this test process")


def _shuffled_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MAX_WORKERS
    first = _FIRST_PORT + worker * _PORTS_OF_A_WORKER
    # In random order, so that two runs on one machine rarely try the same port at the same moment.
    yield from random.sample(range(first, first + _PORTS_OF_A_WORKER), _PORTS_OF_A_WORKER)


_ports: Final = _shuffled_ports()


def run_tool(*command: str, stdin: str | None = None) -> str:
    """Run a daemon's tool and return what it printed.

    Raises:
        DaemonError: It ended with another status than 0.
    """
    done = subprocess.run(
        [find(command[0]), *command[1:]], input=stdin, capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode != 0:
        raise DaemonError(f"{' '.join(command)} ended with status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Daemon:
    """A daemon in the foreground, as a child that also ends if the tests are killed.

    Args:
        command: Its command line; the first word is looked up.
        log: The file that collects its output.
        is_ready: Whether the text that it has logged since its start shows that it is ready.
        namespace: The network namespace that it runs in; None is the one of the tests.
    """

    def __init__(
        self, command: Sequence[str], log: Path, is_ready: Callable[[str], bool], namespace: Namespace | None = None
    ) -> None:
        self.name = command[0]
        self.log = log
        entrance = namespace.entrance if namespace else ()
        self._command = [find("setpriv"), "--pdeathsig", "KILL", *entrance, find(command[0]), *command[1:]]
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, timeout: float = 15) -> None:
        """Start the daemon and wait until it is ready.

        Args:
            timeout: How many seconds it may take.

        Raises:
            DaemonError: It ended, or was not ready in time.
        """
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + timeout
        while not self._is_ready(self.log.read_bytes()[offset:].decode(errors="replace")):
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                what = "ended at its start" if ended else f"was not ready within {timeout:g} s"
                raise DaemonError(f"{self.name} {what}; the end of its log:\n{self.log_tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the daemon cleanly, if it runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemon by SIGKILL."""
        self._end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon, which must run."""
        assert self._process is not None
        self._process.send_signal(number)

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
