"""A small process that starts and ends worker processes for the receiver.

The receiver starts it before it has threads, keys or open files: a process that has threads cannot be forked safely,
and what a worker does not have it cannot disclose. When the receiver ends, however it ends, the kernel closes the
connection to this process, which then ends all workers and itself.
"""

import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from idlib.errors import ExitStatus, IdlibError
from messaging_receiver.workers.frames import Channel

_LOG = logging.getLogger(__name__)

_START: Final = b"s"
_END: Final = b"e"
_NUMBER: Final = struct.Struct("!q")
_ANSWER_SECONDS: Final = 10.0
_ENDING_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.005
_FIRST_FREE_DESCRIPTOR: Final = 3


class SpawnerError(IdlibError):
    """The process that starts worker processes has ended or does not answer."""

    exit_status = ExitStatus.THREAD_DIED

    def __init__(self) -> None:
        super().__init__("the process that starts worker processes has ended", "start the receiver again")


class WorkerProcess(Protocol):
    """A running worker process."""

    @property
    def channel(self) -> Channel:
        """The connection to it."""

    def end(self) -> str:
        """Kill it if it still runs, and return how it ended, as the end of a sentence."""


class Spawner:
    """The receiver's connection to the process that starts worker processes; for any number of threads.

    Args:
        work: Runs in each worker process, with the connection to the receiver.

    Raises:
        OSError: The system has no resources for another process.
    """

    def __init__(self, work: Callable[[Channel], None]) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid: Final = os.fork()
        except OSError:
            self._socket.close()
            theirs.close()
            raise
        if self.pid == 0:
            _run_to_the_end(lambda: _Server(theirs, work).serve(), theirs)
        theirs.close()
        self._socket.settimeout(_ANSWER_SECONDS)

    def start(self) -> WorkerProcess:
        """Start a worker process.

        Raises:
            OSError: The system has no resources for another process.
            SpawnerError: The process that starts workers has ended.
        """
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack:
            stack.callback(ours.close)
            with theirs:
                number = self._ask(_START, theirs)
            if number < 0:
                raise OSError(-number, os.strerror(-number))
            stack.pop_all()
        return _Process(number, Channel(ours), self._end)

    def close(self) -> None:
        """End all workers and the process that starts them."""
        self._socket.close()
        deadline = time.monotonic() + _ENDING_SECONDS
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() >= deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(_POLL_SECONDS)

    def _end(self, pid: int) -> int:
        return self._ask(_END + _NUMBER.pack(pid))

    def _ask(self, request: bytes, *sockets: socket.socket) -> int:
        with self._lock:
            try:
                socket.send_fds(self._socket, [request], [one.fileno() for one in sockets])
                answer = self._socket.recv(_NUMBER.size)
            except OSError as error:
                raise SpawnerError from error
        if len(answer) != _NUMBER.size:
            raise SpawnerError
        return int(_NUMBER.unpack(answer)[0])


class _Process:
    """A worker process of the spawner."""

    def __init__(self, pid: int, channel: Channel, end: Callable[[int], int]) -> None:
        self._pid = pid
        self._end = end
        self.channel = channel

    def end(self) -> str:
        """Kill it if it still runs, and return how it ended."""
        try:
            code = os.waitstatus_to_exitcode(self._end(self._pid))
        finally:
            # Not before: the worker would end by itself, and hide that it was stuck.
            self.channel.close()
        return f"it was ended by signal {-code}" if code < 0 else f"it ended with status {code}"


class _Server:
    """The work of the process that starts workers."""

    def __init__(self, connection: socket.socket, work: Callable[[Channel], None]) -> None:
        self._socket = connection
        self._work = work
        self._workers: set[int] = set()

    def serve(self) -> None:
        # Objects that exist now are left alone by the garbage collector, so that workers keep sharing their memory.
        gc.freeze()
        with contextlib.suppress(ConnectionError):
            while True:
                request, descriptors, _, _ = socket.recv_fds(self._socket, 1 + _NUMBER.size, 1)
                if not request:
                    break
                answer = self._start(descriptors[0]) if request == _START else self._end(_NUMBER.unpack(request[1:])[0])
                self._socket.sendall(_NUMBER.pack(answer))
        for pid in tuple(self._workers):
            self._end(pid)

    def _start(self, descriptor: int) -> int:
        """Return the number of the new process, or an error number below zero."""
        with socket.socket(fileno=descriptor) as connection:
            try:
                pid = os.fork()
            except OSError as error:
                return -(error.errno or errno.EAGAIN)
            if pid == 0:
                _run_to_the_end(lambda: self._work(Channel(connection)), connection)
        self._workers.add(pid)
        return pid

    def _end(self, pid: int) -> int:
        """Return the wait status of a worker, after killing it. Its number cannot belong to another process yet."""
        if pid not in self._workers:
            return 0
        self._workers.discard(pid)
        os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]


def _run_to_the_end(work: Callable[[], None], connection: socket.socket) -> None:
    """Run what a new process is for, with nothing open but its connection and stderr, and end the process."""
    status = ExitStatus.THREAD_DIED
    try:
        # A signal to the process group, such as Ctrl-C, is for the receiver, which ends its workers itself.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _close_others(connection.fileno())
        work()
        status = ExitStatus.OK
    except BaseException:  # noqa: BLE001  # nothing of the parent's stack may run here
        _LOG.exception("Internal error in a worker process")
    finally:
        os._exit(status)


def _close_others(kept: int) -> None:
    """Close all descriptors but stderr and one other; stdin and stdout become /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor >= _FIRST_FREE_DESCRIPTOR and descriptor != kept:
            # The descriptor of the listing itself is closed already.
            with contextlib.suppress(OSError):
                os.close(descriptor)
