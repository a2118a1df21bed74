"""Workers that run in threads instead of processes; what they do, and how they are connected, is real."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from idlib.names import IdentityName
from messaging_receiver.opening import Outcome
from messaging_receiver.workers.epoch_ring import EpochRing
from messaging_receiver.workers.frames import Channel
from messaging_receiver.workers.key_ring import KeyRing
from messaging_receiver.workers.process import Worker


class Killed(BaseException):
    """Ends a worker at once, as a signal would."""


class Mortal(Worker):
    """A worker that some payloads end or stop."""

    def __init__(self, recipient: IdentityName, ring: KeyRing, chance: Callable[[], bool]) -> None:
        super().__init__(recipient, ring, EpochRing(Path("/nonexistent"), recipient))
        self._chance = chance

    def _open(self, payload: bytes) -> Outcome:
        if payload.startswith(b"poison") or self._chance():
            raise Killed
        if payload.startswith(b"sleeping pill"):
            time.sleep(5)
        return super()._open(payload)


class ThreadProcess:
    """A worker in a thread."""

    def __init__(self, worker: Worker) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self._theirs = theirs
        self._thread = threading.Thread(target=self._run, args=(worker,), daemon=True)
        self._thread.start()

    def _run(self, worker: Worker) -> None:
        with self._theirs:
            channel = Channel(self._theirs)
            try:
                worker.serve(channel)
            except Killed:
                self._theirs.shutdown(socket.SHUT_RDWR)
            finally:
                channel.close()

    def kill(self) -> None:
        """End the worker while it waits for a batch."""
        self._theirs.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def end(self) -> str:
        self.channel.close()
        return "it was ended in a test"


class ThreadStarter:
    """Starts workers in threads.

    Args:
        worker: Returns a new worker.
    """

    def __init__(self, worker: Callable[[], Worker]) -> None:
        self._worker = worker
        self.started: list[ThreadProcess] = []
        self.errors: list[OSError] = []

    def start(self) -> ThreadProcess:
        if self.errors:
            raise self.errors.pop()
        self.started.append(ThreadProcess(self._worker()))
        return self.started[-1]
