"""All senders of a run, kept going."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chaos.line_sender import LineSender
from chaos.message_sender import MessageSender
from chaos.reports import Promise

_STEP_SECONDS: Final = 0.05


class Senders:
    """Runs senders, in a separate thread.

    Args:
        senders: Which.
    """

    def __init__(self, senders: Sequence[LineSender | MessageSender]) -> None:
        self._senders = tuple(senders)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._running = self._thread.submit(self._run)

    @property
    def promises(self) -> frozenset[Promise]:
        """What was promised, complete when they have finished."""
        return frozenset(promise for sender in self._senders for promise in sender.promises)

    @property
    def events(self) -> Counter[str]:
        """How their programs ended, complete when they have finished."""
        return sum((sender.events for sender in self._senders), Counter())

    def kill_some(self, generator: random.Random) -> None:
        """Kill the programs of one or more senders, which continue by themselves.

        Args:
            generator: Decides which ones.
        """
        with self._lock:
            for sender in generator.sample(self._senders, generator.randint(1, len(self._senders))):
                sender.kill()

    def check(self) -> None:
        """Raise the exception that has ended the thread, if any."""
        if self._running.done():
            self._running.result()

    def finish(self) -> None:
        """Send nothing more, and return when all programs have ended by themselves."""
        self._stopping.set()
        self._running.result()

    def close(self) -> None:
        """End them, whatever their state."""
        with self._lock:
            self._stopping.set()
            for sender in self._senders:
                sender.kill()
        self._thread.shutdown()

    def _run(self) -> None:
        while not self._stopping.wait(_STEP_SECONDS):
            with self._lock:
                for sender in self._senders:
                    sender.step(time.monotonic())
        # In this thread: the programs are children of it, and killed when it ends.
        for sender in self._senders:
            sender.finish()
