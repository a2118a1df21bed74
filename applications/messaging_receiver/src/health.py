"""Whether the receiver is well: asked over a socket beside its store, answered by the receiver itself."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from idlib.errors import ConfigurationError, StoreError
from idlib.settings import RECEIVER_READS, load

_SOCKET_NAME: Final = "health.socket"
_MAX_REASON_CHARACTERS: Final = 100
_MAX_SOCKET_PATH_OCTETS: Final = 100
_ANSWER_SECONDS: Final = 10.0
_WELL: Final = "ok: connected, subscribed, threads moving, own record in DNS"


class HealthService:
    """Answers whoever asks whether the receiver is well.

    Args:
        directory: Where the socket lies; only who may write there can ask.
        ailment: Says what is wrong, or None; from a thread of its own.

    Raises:
        StoreError: The socket cannot be made.
    """

    def __init__(self, directory: Path, ailment: Callable[[], str | None]) -> None:
        self.ailment = ailment
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            (directory / _SOCKET_NAME).unlink(missing_ok=True)
            with _short_path(directory) as path:
                self._listener.bind(path)
        except OSError as error:
            raise StoreError(
                f"{directory / _SOCKET_NAME} cannot be made: {error.strerror}", "check the disk's space and DATA_PATH"
            ) from error
        self._listener.listen()
        threading.Thread(target=self._serve, name="Health", daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                reason = self.ailment() or _WELL
                try:
                    connection.sendall(reason[:_MAX_REASON_CHARACTERS].encode("ascii", "replace"))
                except OSError:
                    continue


def main() -> int:
    """Print what the receiver of this environment says of itself; return 0 where it is well, else 1."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            with _short_path(load(os.environ, RECEIVER_READS).data_path) as path:
                connection.connect(path)
            answer = connection.recv(_MAX_REASON_CHARACTERS).decode("ascii", "replace")
    except ConfigurationError as error:
        # The receiver has not started for the same reason.
        answer = error.problems[0][:_MAX_REASON_CHARACTERS]
    except TimeoutError:
        answer = "the receiver does not answer"
    except OSError:
        answer = "the receiver is not running"
    print(answer or "the receiver is not running")
    return 0 if answer == _WELL else 1


@contextlib.contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """Yield a path of the socket that fits into a socket's address, which has room for little more than 100 octets."""
    path = directory / _SOCKET_NAME
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_OCTETS:
        yield str(path)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_SOCKET_NAME}"
    finally:
        os.close(descriptor)
