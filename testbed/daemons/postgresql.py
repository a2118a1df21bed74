"""PostgreSQL, with its data in a directory of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from testbed.daemons.process import LOOPBACK, Daemon, find, free_port, run_tool
from testbed.programs import descendants

USER: Final = "receiver"
# The server refuses to run as root.
_SYSTEM_USER: Final = "postgres"
_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_CONFIGURATION: Final = """\
listen_addresses = '{address}'
port = {port}
unix_socket_directories = '{directory}'
max_connections = 100
shared_buffers = 64MB
log_line_prefix = '%m [%p] '
"""


class Postgresql(Daemon):
    """A database server on loopback that accepts its superuser without a password; it keeps its data until `__exit__`.

    Args:
        durable: Whether a commit waits for the disk, as by default; it must where a test kills the server.
        extra: Further lines of its configuration.
    """

    def __init__(self, *, durable: bool = True, extra: str = "") -> None:
        self.host = LOOPBACK
        self.port = free_port()
        # Not in the directory of the test, which is closed to other users.
        self._directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._data = self._directory / "data"
        self._databases = 0
        self._roles = 0
        self._as_user = _as_system_user(self._directory)
        self._settings = _CONFIGURATION.format(address=LOOPBACK, port=self.port, directory=self._directory)
        self._settings += extra if durable else f"fsync = off\n{extra}"
        super().__init__(
            [*self._as_user, find("postgres"), "-D", str(self._data)],
            self._directory / "postgresql.log",
            lambda log: "ready to accept connections" in log,
        )
        self.name = "postgres"

    def __enter__(self) -> Self:
        self._create()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def address(self) -> str:
        """Address and port as the programs show them."""
        return f"{self.host}:{self.port}"

    def url(self, database: str = "postgres") -> str:
        """Return the value of STORE for a database.

        Args:
            database: Its name.
        """
        return f"postgresql://{USER}@{self.address}/{database}"

    def socket_url(self, url: str) -> str:
        """Return another URL of a database, for programs in any network namespace.

        Args:
            url: As `url` returns it.
        """
        return f"{url}?host={self._directory}".replace(self.address, f":{self.port}")

    def processor_seconds(self) -> float:
        """Return the processor time of the processes that run, in seconds."""
        return sum(int(Path(f"/proc/{number}/schedstat").read_text().split()[0]) for number in self._processes()) / 1e9

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Stop the server's processes for the time of the block: connections stay, and nothing is answered."""
        processes = self._processes()
        _signal_all(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal_all(processes, signal.SIGCONT)

    def _processes(self) -> tuple[int, ...]:
        assert self._process is not None
        return (self._process.pid, *descendants(self._process.pid))

    def new_database(self) -> str:
        """Create an empty database, and return the value of STORE for it."""
        self._databases += 1
        database = f"messages{self._databases}"
        self.run(f"CREATE DATABASE {database}")
        return self.url(database)

    def new_role(self, options: str = "") -> str:
        """Create a role that may log in but has no rights, and return its name.

        Args:
            options: Its options beside LOGIN, in SQL.
        """
        self._roles += 1
        role = f"role{self._roles}"
        self.run(f"CREATE ROLE {role} LOGIN {options}")
        return role

    def run(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as superuser, and return its rows: a line each, with columns separated by |.

        Args:
            statement: In SQL.
            database: The name of the database, or the value of STORE for it.
        """
        database = database.rpartition("/")[2]
        return run_tool("psql", "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url(database))

    def start(self, timeout: float = _START_SECONDS) -> None:
        """Start the server.

        Args:
            timeout: How many seconds it may take.

        Raises:
            DaemonError: It ended, or was not ready in time.
        """
        super().start(timeout)

    def kill(self) -> None:
        """End all processes of the server by SIGKILL, as a power cut does.

        One that waits for a lock of another may never notice the end of the main process, and would block the next
        start.
        """
        if self._process is None:
            return
        # The main process starts no others while the list is made.
        self.send_signal(signal.SIGSTOP)
        processes = self._processes()
        super().kill()
        _signal_all(processes[1:], signal.SIGKILL)
        deadline = time.monotonic() + _END_SECONDS
        while any(map(_is_running, processes)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server cleanly, if it runs; connections are ended."""
        self._end(signal.SIGINT)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Kill the server for the time of the block."""
        self.kill()
        yield
        self.start()

    def _create(self) -> None:
        run_tool(
            *self._as_user, find("initdb"), "-D", str(self._data), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"
        )
        with (self._data / "postgresql.conf").open("a") as configuration:
            configuration.write(self._settings)


def _is_running(number: int) -> bool:
    """Return whether a process has memory: it has not ended, even if nothing has waited for its end yet."""
    try:
        return bool(Path(f"/proc/{number}/cmdline").read_bytes())
    except OSError:
        return False


def _signal_all(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        # The process of a connection may have ended just now.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _as_system_user(directory: Path) -> tuple[str, ...]:
    """Return what to put before a command so that it may serve the directory: root may not."""
    if os.geteuid() != 0:
        return ()
    user = pwd.getpwnam(_SYSTEM_USER)
    os.chown(directory, user.pw_uid, user.pw_gid)
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig", "KILL")
