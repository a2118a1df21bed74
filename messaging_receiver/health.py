"""The receiver's health: `--health` asks the running receiver over a Unix socket in DATA_PATH."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from idlib.errors import ConfigurationError, StoreError, quoted
from idlib.files import DIRECTORY_MODE
from idlib.settings import RECEIVER_READS, load
from idlib.system.failure_log import FailureLog

_LOG = logging.getLogger(__name__)

_SOCKET_NAME: Final = "health.socket"
_MAX_REASON_CHARACTERS: Final = 100
_MAX_SOCKET_PATH_OCTETS: Final = 100
_ANSWER_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 1.0
_HEALTHY: Final = "ok: connected, subscribed, threads moving, own record in DNS"
_NOT_RUNNING: Final = "the receiver is not running"


class HealthService:
    """Answers health requests.

    Args:
        directory: The directory of the socket, which is created if it is missing. Only users who can access it can send
            requests.
        problem: Returns what is wrong, or None; called in a thread of its own.

    Raises:
        StoreError: The socket cannot be created.
    """

    def __init__(self, directory: Path, problem: Callable[[], str | None]) -> None:
        self.problem = problem
        # Returns what else to say if nothing is wrong.
        self.extra: Callable[[], str] = lambda: ""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # With STORE, nothing else creates it.
            with contextlib.suppress(FileExistsError):
                directory.mkdir(DIRECTORY_MODE, parents=True)
            (directory / _SOCKET_NAME).unlink(missing_ok=True)
            with _short_path(directory) as path:
                self._listener.bind(path)
        except OSError as error:
            self._listener.close()
            raise StoreError(
                f"{quoted(directory / _SOCKET_NAME)} cannot be created: {error.strerror}",
                "check the disk's space and DATA_PATH",
            ) from error
        self._listener.listen()
        threading.Thread(target=self._serve, name="Health", daemon=True).start()

    def _serve(self) -> None:
        outage = FailureLog(_LOG)
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                # For example, no file descriptor is free; the request waits until one is.
                outage.begin(f"Health requests cannot be accepted: {error.strerror}")
                time.sleep(_PAUSE_SECONDS)
                continue
            outage.end()
            answer = self.answer().encode("ascii", "replace")
            # The client may have disconnected.
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)

    def answer(self) -> str:
        """Return the health in one line."""
        try:
            return (self.problem() or f"{_HEALTHY}{self.extra()}")[:_MAX_REASON_CHARACTERS]
        except Exception:  # noqa: BLE001  # one internal error must not end the service
            _LOG.exception("Internal error while answering a health request")
            return "internal error in the receiver while checking its health"


def main() -> int:
    """Print the health of the running receiver; return 0 if it is healthy, else 1."""
    answer = _ask()
    print(answer)
    return 0 if answer.startswith(_HEALTHY) else 1


def _ask() -> str:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            with _short_path(load(os.environ, RECEIVER_READS).data_path) as path:
                connection.connect(path)
            return connection.recv(_MAX_REASON_CHARACTERS).decode("ascii", "replace") or _NOT_RUNNING
    except ConfigurationError as error:
        return error.problems[0].splitlines()[0][:_MAX_REASON_CHARACTERS]
    except TimeoutError:
        return "the receiver does not answer"
    except OSError:
        return _NOT_RUNNING


@contextlib.contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """Yield a path of the socket that fits into a socket address, which has room for about 100 bytes."""
    path = directory / _SOCKET_NAME
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_OCTETS:
        yield str(path)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET_NAME}"
    finally:
        os.close(descriptor)
